"""Files of every kind that the product reads, changed: each gives what it holds or one of its reader's own errors, soon, and
without more memory than a file of its size deserves."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from latentman.backend.jobs.job import Job
from latentman.backend.jobs.requests import read_request
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.registry import STARTER
from latentman.backend.models.settings_files import read_settings_file
from latentman.backend.reference_pictures import decode_reference
from latentman.backend.video.look import Look
from latentman.blender_addon.character import body_model, mapping
from latentman.blender_addon.motion import bvh, readers
from latentman.blender_addon.motion.scene_file_headers import read_scene_file_header
from latentman.shared import curve_keys, passes_folder
from latentman.shared.files import read_file
from latentman.shared.manifest import PassesHeader, PassesManifest
from latentman.shared.motion import MotionError
from latentman.shared.shot import ShotError
from latentman.shared.skeleton import SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS

from .. import motion_samples
from ..client import play_once
from ..mutation import mutate_bytes, mutate_text
from ..processes import CONTEXT, Backend, Program
from ..shots import make_passes, make_shot
from ..trial import Budget, Figures

#: files of one trial, all of one kind
BATCH = 200
HANG_SECONDS = 10.0
#: memory that a reader may need beside this many times the size of the file
MOST_GROWTH_MB, MOST_FACTOR = 200, 20
#: where a reader would take what it is asked for, the system says no instead of the machine coming to a halt
LIMIT_BYTES = 8 << 30


@dataclass(frozen=True)
class Reader:
    """A kind of file: a sound one, how it is read, and the errors that its reader is known to raise."""

    file: str
    data: bytes
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    mutate: Callable[[random.Random, bytes], bytes] = mutate_bytes


def _read_motion(path: Path) -> None:
    file = readers.read(path)
    for clip in range(min(len(file.clips), 2)):
        file.get_motion(clip)


def _make_motion_reader(name: str, data: bytes) -> Reader:
    suffix = Path(name).suffix
    read = bvh.read_body if suffix == ".bvh" else _read_motion if suffix in readers.SUFFIXES else read_scene_file_header
    return Reader(name, data, read, (MotionError,), mutate_text if suffix in (".json", ".bvh", ".gltf", ".usda") else mutate_bytes)


def _read_checkpoint(path: Path) -> None:
    request = make_shot("starter", "joint").request
    Job(path.parent, request).load_checkpoint()


def _read_frame(path: Path) -> None:
    job = Job(path.parent.parent, make_shot("starter", "joint").request)
    if job.has_frame(0):
        job.read_frame(0)


def _read_keys(path: Path) -> None:
    def refuse() -> tuple[bytes, bytes]:
        raise AssertionError("the keys are there")

    curve_keys.load_or_create(refuse, path.parent.parent)


def _pack(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _save(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _make_body() -> dict[str, Any]:
    """A body of a few points, in SMPL's layout."""
    chance, joints, points = np.random.default_rng(0), len(SMPL_JOINTS), 60
    owner = np.arange(points) % joints
    regressor = np.zeros((joints, points))
    regressor[owner, np.arange(points)] = 1 / np.bincount(owner, minlength=joints)[owner]
    return {
        "v_template": np.asarray(SMPL_REST_JOINTS, float)[owner] + chance.normal(0, 0.01, (points, 3)),
        "f": np.arange(points).reshape(-1, 3).astype(np.uint32),
        "weights": np.eye(joints)[owner],
        "J_regressor": regressor,
        "kintree_table": np.array([[p % 2**32 for p in SMPL_PARENTS], range(joints)], np.uint32),
        "shapedirs": chance.normal(0, 0.01, (points, 3, 2)),
        "posedirs": np.zeros((points, 3, 9 * (joints - 1))),
    }


def _find_smallest_model() -> Path:
    return min(STARTER.rglob("*.safetensors"), key=lambda path: path.stat().st_size)


def make_readers(job: Path) -> list[Reader]:
    """Every kind of file; ``job`` is the folder of a finished job, whose files are among them."""
    passes, frames = make_passes(1, 32), 12
    manifest = PassesManifest(width=32, height=32, fps=20.0, frames=(1,), near=0.0, far=0.0)
    body, chance = _make_body(), np.random.default_rng(1)
    joints = chance.normal(0, 1, (frames, 22, 3)).astype(np.float32)
    plain = {name: value.tolist() if name == "f" else value for name, value in body.items()}
    motion, request = (MotionError,), (OSError, msgspec.MsgspecError)
    amass = {
        "poses": np.zeros((frames, 156)),
        "trans": np.zeros((frames, 3)),
        "mocap_framerate": np.array(30.0),
        "betas": np.zeros(16),
    }
    smpl = {"thetas": np.zeros((24, 6, frames)), "root_translation": np.zeros((3, frames)), "text": "walks"}
    checkpoint = _pack(step=np.array(2), latents=np.zeros((3, 4, 8, 8)), trajectory=np.zeros((3, 4, 8, 8)))
    bones = mapping.dump({joint: joint for joint in SMPL_JOINTS}).encode()
    settings = b'{"width": 512, "steps": 25, "scheduler": "euler", "negative_prompt": "fog", "zero_terminal_snr": false}'
    return [
        Reader("results.npy", readers.BUNDLED.read_bytes()[:200_000], _read_motion, motion),
        Reader("joints.npy", _save(joints), _read_motion, motion),
        Reader("vectors.npy", _save(np.zeros((frames, 263), np.float32)), _read_motion, motion),
        Reader("smpl.npy", _save(np.array(smpl, dtype=object)), _read_motion, motion),
        Reader("amass.npz", _pack(**amass), _read_motion, motion),
        Reader(
            "made.npz", _pack(vectors=np.zeros((2, frames, 263)), text=np.array("walks"), fps=np.array(20.0)), _read_motion, motion
        ),
        *(_make_motion_reader(name, data) for name, data in motion_samples.make_samples(frames).items()),
        Reader("body.npz", _pack(**body), body_model.load, (body_model.BodyModelError,)),
        # pickled here to be read without unpickling
        Reader("body.pkl", pickle.dumps(plain, protocol=2), body_model.load, (body_model.BodyModelError,)),
        Reader(
            "0001.exr",
            passes_folder.encode_frame(passes, PassesHeader()),
            passes_folder.read_frame,
            (OSError, ValueError, KeyError),
        ),
        Reader(
            "passes.json",
            msgspec.json.encode(manifest),
            lambda path: passes_folder.PassesFolder(path.parent),
            (ShotError,),
            mutate_text,
        ),
        Reader("request.json", (job / "request.json").read_bytes(), read_request, request, mutate_text),
        Reader("report.json", (job / "report.json").read_bytes(), lambda path: _read_report(path), (), mutate_text),
        Reader("look.npz", (job / "look.npz").read_bytes(), lambda path: Look.decode(read_file(path)), (ShotError,)),
        Reader("model.safetensors", _find_smallest_model().read_bytes(), inspect_model_file, (ShotError,)),
        Reader(
            "reference.picture",
            (job / "frames" / "00000.png").read_bytes(),
            lambda path: decode_reference(read_file(path)),
            (ShotError,),
        ),
        Reader("model.latentman.json", settings, read_settings_file, (ShotError,), mutate_text),
        Reader("latents.npz", checkpoint, _read_checkpoint, ()),
        Reader("frames/00000.png", (job / "frames" / "00000.png").read_bytes(), _read_frame, ()),
        Reader("keys/curve.txt", b"\n".join([b"a" * 40] * 4), _read_keys, (ValueError, OSError)),
        Reader(
            "bones.json", bones, lambda path: mapping.parse(path.read_text(errors="replace")), (mapping.MappingError,), mutate_text
        ),
    ]


def _read_report(path: Path) -> None:
    Job(path.parent, make_shot("starter", "joint").request).report()


def _read_all(job: Path, number: int, seeds: list[str], folder: Path, answers: Connection) -> None:
    """The program of a reader's process: says before and after each file how it stands."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    reader = make_readers(job)[number]
    path = folder / reader.file
    os.umask(0o077)  # keys that others can read are refused
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(reader.data)
    reader.read(path)  # whatever is imported with the first one is no file's fault
    for seed in seeds:
        data = reader.mutate(random.Random(seed), reader.data)
        path.write_bytes(data)
        answers.send(("begins", seed, 0.0))
        before = _measure_peak(reset=True)
        try:
            reader.read(path)
            outcome = "read"
        except reader.errors:
            outcome = "refused"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"[:200]
        grown = _measure_peak() - before
        answers.send((outcome, seed, grown - MOST_FACTOR * len(data) / 1e6))
    answers.send(("ends", "", 0.0))


def _measure_peak(reset: bool = False) -> float:
    """The most memory in MB that this process has had since the last reset; from a reset on, what it has now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise KeyError("VmHWM")


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is a batch of files."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("deaths", f"hangs over {HANG_SECONDS:g} s", "beyond the memory", "unforeseen errors"), 0))
    backend = Backend(budget.work / "jobs")
    shot = make_shot(budget.model, "key frames")
    try:
        if play_once(backend.endpoint, shot).end != "finished":
            raise RuntimeError(f"no job could be made; see {backend.log}")
    finally:
        backend.stop()
    (job,) = (path.parent for path in (budget.work / "jobs").glob("*/request.json"))
    kinds, most = [reader.file for reader in make_readers(job)], 0.0
    for number, chance, folder in budget.trials():
        seeds = [f"{chance.random()} {n}" for n in range(BATCH)]
        most = max(most, _try_files(figures, job, number % len(kinds), kinds[number % len(kinds)], seeds, folder))
    figures.measures["most memory beyond 20 times a file's size"] = f"{most:.0f} MB"
    return figures


def _try_files(figures: Figures, job: Path, number: int, kind: str, seeds: list[str], folder: Path) -> float:
    """Let a process read one file after the other, and another one those behind the file that ended it; the most memory."""
    most = 0.0
    while seeds:
        reader, writer = CONTEXT.Pipe(duplex=False)
        program = Program(_read_all, job, number, seeds, folder, writer)
        writer.close()
        current = "before the first"
        seconds = 60.0  # the imports
        while True:
            try:
                if not reader.poll(seconds):
                    figures.counts[f"hangs over {HANG_SECONDS:g} s"] += 1
                    figures.fault(f"files: {kind} with the seed '{current}' is still being read after {seconds:g} s")
                    break
                outcome, seed, beyond = reader.recv()
            except EOFError:
                program.wait(10)
                figures.counts["deaths"] += 1
                figures.fault(f"files: {kind} with the seed '{current}' ended the process with {program.code}")
                break
            if outcome == "ends":
                program.wait(10)
                return most
            current, seconds = seed, HANG_SECONDS
            if outcome == "begins":
                figures.counts["files"] += 1
                continue
            most = max(most, beyond)
            if outcome in ("read", "refused"):
                figures.counts[outcome] += 1
            else:
                figures.counts["unforeseen errors"] += 1
                figures.fault(f"files: {kind} with the seed '{seed}' raises {outcome}")
            if beyond > MOST_GROWTH_MB:
                figures.counts["beyond the memory"] += 1
                figures.fault(f"files: {kind} with the seed '{seed}' needs {beyond:.0f} MB more than its size explains")
        program.kill()
        seeds = seeds[seeds.index(current) + 1 :] if current in seeds else []
    return most
