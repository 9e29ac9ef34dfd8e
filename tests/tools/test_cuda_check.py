"""The check of a CUDA device, on the processor at small sizes: what it finds, what it keeps when a part goes wrong, what it
packs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from latentman.backend.models.families import FAMILIES
from latentman.backend.models.preflight import check_model
from latentman.backend.models.schedulers import SCHEDULERS
from latentman.backend.pictures import read_png
from latentman.shared.shot import METHODS, PRESETS
from tools import write_cuda_page
from tools.cuda_check import correctness, families, packing, speed
from tools.cuda_check.cells import Cell, measure_cell, scale_steps
from tools.cuda_check.child import Task
from tools.cuda_check.models import make_model
from tools.cuda_check.parts import PARTS, Part, share_time
from tools.cuda_check.recording import UNFINISHED, Clock, Recorder, read_rows
from tools.cuda_check.running import RESULTS, Run, read_results, run_parts
from tools.cuda_check.scale import SMALL
from tools.cuda_check.shots import draw_ahead, draw_shot, take_drawn
from tools.cuda_check.tables import format_results
from tools.locks import LOCKS, read_lock

CPU = torch.device("cpu")
STAND_INS = "tests.tools.cuda_check_parts"


def _part(name, share=1.0):
    return Part(name, f"It does {name}", f"{STAND_INS}:{name}", share)


# -- correctness --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_of_the_part_about_correctness_runs_on_a_processor(tmp_path, monkeypatch):
    # one of each kind is enough here: other tests make frames with all of them
    monkeypatch.setattr(correctness, "SCHEDULERS", {name: SCHEDULERS[name] for name in ("ddim", "dpm++_sde")})
    monkeypatch.setattr(correctness, "PRESETS", {name: PRESETS[name] for name in ("latentman",)})
    monkeypatch.setattr(correctness, "COMPARED", ("surface",))
    monkeypatch.setattr(families, "FAMILIES", {"SDXL": families.FAMILIES["SDXL"]})
    recorder = Recorder(tmp_path / "rows.json")
    correctness.run(Task("cpu", SMALL, Clock(600), recorder, tmp_path / "pictures"))
    found = {row["name"]: row for row in recorder.rows}
    left_out = found.pop("short memory")
    assert left_out["passed"] is None and "processor" in left_out["reason"]
    assert all(row["passed"] for row in found.values()), found
    assert found["float32, surface"]["largest_difference"] == 0 and 35 < found["float16, surface"]["psnr"] < 100
    assert {"made again", "resumed after step 1", "cancelled", "jobs in a row", "scheduler dpm++_sde", "preset latentman"} <= set(
        found
    )
    facts, rows = read_rows(tmp_path / "rows.json")
    assert rows == json.loads(json.dumps(recorder.rows)) and facts["device_kind"] == "cpu"
    assert read_png(tmp_path / "pictures" / "precisions_surface.png").shape == (4 * 64, 3 * 64, 3)


def test_a_fault_of_the_device_is_found(monkeypatch):
    recorder = Recorder()
    task = Task("cpu", replace(SMALL, check_frames=1), Clock(600), recorder)
    maker = correctness.make_maker(task)
    make = type(maker).make

    def make_wrongly(self, model, *args, **changes):
        found = make(self, model, *args, **changes)
        return found if model.dtype == torch.float32 else found // 2

    monkeypatch.setattr(type(maker), "make", make_wrongly)
    monkeypatch.setattr(correctness, "COMPARED", ("per_frame",))
    correctness.check_precisions(task, maker)
    assert [row["passed"] for row in recorder.rows] == [True, False, False]


def test_what_raises_is_kept_and_the_next_check_is_made(monkeypatch):
    recorder = Recorder()

    def check_first(task, maker):
        raise RuntimeError("no kernel image\nis available")

    def check_second(task, maker):
        task.recorder.check("second", True, "")

    for name in ("check_precisions", "check_schedulers", "check_presets", "check_families"):
        monkeypatch.setattr(correctness, name, check_first)
    for name in ("resumption", "kept_look", "cancelling", "short_memory", "growth"):
        monkeypatch.setattr(correctness.jobs, f"check_{name}", check_second)
    correctness.run(Task("cpu", SMALL, Clock(600), recorder))
    assert recorder.rows[0] == {
        "name": "first",
        "passed": False,
        "wanted": "",
        "reason": "RuntimeError: no kernel image is available",
    }
    assert [row["passed"] for row in recorder.rows] == [False, *[True] * 5, False, False, False]


def test_every_family_is_tried_and_a_fault_of_one_is_kept(monkeypatch):
    # Stable Diffusion is the starter's, and what needs a look of another model makes nothing by itself
    assert {*families.FAMILIES, "Stable Diffusion"} == {family.title for family in FAMILIES if not family.needs_view}
    monkeypatch.setattr(families, "FAMILIES", {name: families.FAMILIES[name] for name in ("SDXL", "Wan VACE")})
    monkeypatch.setattr(families, "PRESETS", ("per_frame",))
    monkeypatch.setattr(families.tiny_models, "write_sdxl", lambda root: None)
    recorder = Recorder()
    families.check_families(Task("cpu", SMALL, Clock(600), recorder), None)
    assert [(row["name"], row["passed"]) for row in recorder.rows] == [("SDXL", False), ("Wan VACE", True)]
    assert recorder.rows[1]["largest_difference"] == 0


def test_every_family_can_be_written(tmp_path):
    for title, write in families.FAMILIES.items():
        folder = tmp_path / title.replace(" ", "_")
        folder.mkdir()
        check_model(write(folder), 64, 64)


# -- speed --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timed():
    """A random model and a shot."""
    return make_model("sd1", CPU, divisor=SMALL.divisor), draw_shot(2, 64)


def test_a_cell_is_measured_with_the_shares_of_its_stages(timed):
    figures = measure_cell(*timed, Cell("", "surface", 2, 2), 60.0)
    assert figures["seconds_per_frame"] > 0 and "reason" not in figures
    assert sum(figures["stages"].values()) == pytest.approx(1, abs=0.01)
    assert {"networks", "decoding", "encoding", "lattice", "fusion", "text", "scheduler"} <= set(figures["stages"])


def test_a_cell_without_time_or_with_too_little_says_so(timed):
    assert measure_cell(*timed, Cell("", "per_frame", 2, 2), 0.0)["reason"] == "no time was left"
    late = measure_cell(*timed, Cell("", "per_frame", 2, 400), 1e-3)
    assert late["seconds_per_frame"] is None and late["reason"].startswith("0 of 2 frames")


def test_steps_that_were_not_made_are_computed_by_their_kind():
    cell = Cell("", "latentman", 4, 10, stands_for=100)
    # 2 of 10 steps are guided; one second is beside all of them, and the first step was not timed
    seconds = {n: 3.0 if n in (4, 5) else 0.5 for n in range(1, 10)}
    whole = 1.0 + 0.5 + sum(seconds.values())
    assert scale_steps(METHODS["latentman"], cell, seconds, whole) == pytest.approx(1.0 + 20 * 3.0 + 80 * 0.5)


def test_cells_come_in_order_and_each_is_there_with_a_reason_or_a_figure():
    cells = speed.list_cells(SMALL)
    assert cells[0].name == speed.PAPER and (cells[0].stands_for, cells[0].guidance_scale) == (SMALL.paper[1], 9.0)
    assert {(c.variant, c.frames) for c in cells[1:]} == {(way, n) for way in speed.WAYS for n in SMALL.frame_counts}
    assert len({cell.name for cell in cells}) == len(cells)
    recorder, left = Recorder(), iter([9.0] * 4)

    def measure(cell, seconds):
        if seconds <= 0:
            return {"seconds_per_frame": None, "reason": "no time was left"}
        return {"seconds_per_frame": 4.0 if cell.stands_for else 0.5 if cell.variant == "per_frame" else None, "reason": "slow"}

    speed.measure_cells(recorder, cells, measure, lambda: next(left, 0.0))
    rows = {row["name"]: row for row in recorder.rows}
    assert len(rows) == len(cells) == len(recorder.rows)
    assert rows["per_frame, 2 frames"]["times_as_fast_as_paper"] == 8.0
    assert rows["surface, 3 frames"]["reason"] == "a shorter shot took too long already"
    assert rows["cross_frame, 2 frames"]["reason"] == "no time was left"


def test_shots_are_drawn_ahead_and_walk_on(tmp_path):
    draw_ahead(tmp_path, [64], 2)
    ahead, here = take_drawn(tmp_path, 64, 5, 0.0), take_drawn(None, 64, 5)
    assert ahead.manifest.frames == (1, 2, 3, 4, 5) and len(ahead.manifest.cameras) == 5
    assert (ahead.passes.depth[4] == ahead.passes.depth[0]).all() and (ahead.passes.depth[1] == ahead.passes.depth[3]).all()
    assert here.passes.frame_count == 5 and here.passes.depth.shape == ahead.passes.depth.shape


# -- parts --------------------------------------------------------------------------------------------------------------------


def test_parts_that_raise_crash_or_hang_are_kept_and_the_next_still_runs(tmp_path):
    names = ("fail", "crash", "hang", "succeed")
    # the one that hangs has a hundredth of the time
    parts = [_part(name, 0.01 if name == "hang" else 1.0) for name in names]
    said = []
    is_done = run_parts(parts, Run("cpu", "small", 0.5, "a command"), tmp_path, say=said.append, grace=1.0)
    found = read_results(tmp_path / RESULTS)
    states = {name: (part["state"], part["reason"]) for name, part in found["parts"].items()}
    assert not is_done and list(states) == list(names)
    assert states["fail"] == ("failed", "ValueError: the device is on fire")
    assert states["crash"] == ("failed", "it was ended by SIGABRT")
    assert states["hang"][0] == "stopped" and "had not ended" in states["hang"][1]
    assert states["succeed"] == ("done", "")
    assert found["parts"]["fail"]["rows"] == [{"name": "before", "passed": True, "wanted": "to be kept", "value": None}]
    assert [row.get("reason") for row in found["parts"]["hang"]["rows"]] == [None, UNFINISHED]
    assert found["parts"]["succeed"]["rows"][0]["seconds_per_frame"] == 0.5 and found["facts"]["device_name"] == "a stand-in"
    table = format_results(found)
    assert all(sentence in table for sentence in ("the device is on fire", UNFINISHED, "a stand-in", "0.5"))
    assert len(said) == 2 * len(names)


def test_a_part_gets_what_earlier_ones_did_not_use():
    assert sum(part.share for part in PARTS) == pytest.approx(1)
    assert share_time(PARTS, 0, 480) == pytest.approx(480 * PARTS[0].share)
    assert share_time(PARTS, len(PARTS) - 1, 33) == 33


# -- the pack -----------------------------------------------------------------------------------------------------------------


def test_a_pack_has_what_the_other_machine_lacks():
    lock = read_lock(LOCKS / "backend.txt")
    chosen = packing.choose_packages(lock, "3.12", "linux-x64", ("SciPy", "numpy"))
    names = [package.name for package in chosen]
    assert {"diffusers", "transformers", "msgspec", "pillow", "pyzmq"} <= set(names) and len(set(names)) == len(names)
    assert not {"torch", "triton", "numpy", "scipy", "sympy", "colorama", "pycparser"} & set(names)
    assert not any(name.startswith(("nvidia", "cuda")) for name in names)
    assert "numpy" in {package.name for package in packing.choose_packages(lock, "3.12", "linux-x64", ())}


def test_a_pack_holds_packages_the_project_and_the_shot(tmp_path):
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("thing/__init__.py", "thing-1.0.data/purelib/other.py", "thing-1.0.data/scripts/run", "../outside.py"):
            archive.writestr(name, "x")
    assert [name for name, _ in packing.list_wheel(wheel)] == ["thing/__init__.py", "other.py"]
    project = dict(packing.list_project())
    assert {"latentman/__init__.py", "latentman/backend/models/starter/model_index.json", "tools/cuda_check/child.py"} <= set(
        project
    )
    assert "latentman/blender_addon/character/data/mannequin.npz" in project
    assert not any("motion/starter" in name or "__pycache__" in name for name in project)
    # weights hardly shrink, and half of a pack is other packages
    assert sum(path.stat().st_size for path in project.values()) < 0.75 * packing.MOST
    packing.write_archive(tmp_path / "pack.tar.xz", [("site/a.py", b"1"), ("b.py", b"22")])
    with tarfile.open(tmp_path / "pack.tar.xz") as archive:
        assert [(entry.name, entry.size) for entry in archive] == [("site/a.py", 1), ("b.py", 2)]


@pytest.mark.slow
def test_a_pack_runs_the_check_and_the_training(tmp_path):
    """The script beside a pack, as the other machine runs it; the packages are this one's."""
    packing.write_archive(tmp_path / packing.ARCHIVE, packing.list_contents((), None))
    (tmp_path / packing.SCRIPT).write_text(packing.RUN, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for arguments, said in ((("--help",), "tools.cuda_check"), (("train", "--help"), "tools.train_dressed_starter")):
        done = subprocess.run(
            [sys.executable, str(tmp_path / packing.SCRIPT), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0 and said in done.stdout, done.stderr[-2000:]


# -- the page -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def results():
    """Results as a run on a CUDA device has them."""
    cell = {"name": "surface, 8 frames", "seconds_per_frame": 0.05, "times_as_fast_as_paper": 20.5, "peak_mb": 5000.0}
    rows = [{"name": "float32", "passed": True, "wanted": "within 1 level", "largest_difference": 1}]
    part = {"state": "done", "reason": "", "seconds": 12.0}
    facts = {"device_kind": "cuda", "device_name": "A Card", "torch": "2.13", "memory_gb": 80.0}
    return {
        "made_by": "LatentMan",
        "command": "python -m tools.cuda_check",
        "device": "cuda",
        "scale": "full",
        "date": "2026-01-01",
        "minutes": 8,
        "facts": facts,
        "parts": {
            "correctness": {"title": "Are frames right?", "rows": rows, **part},
            "sd15": {
                "title": "Seconds",
                "rows": [cell | {"stages": {"networks": 0.8}}, cell | {"name": "b", "reason": "late"}],
                **part,
            },
        },
    }


def test_the_page_shows_the_results_of_a_cuda_device_alone(tmp_path, monkeypatch, results, capsys):
    monkeypatch.setattr(write_cuda_page, "FOLDER", tmp_path / "cuda")
    given = tmp_path / "given.json"
    given.write_text(json.dumps(results), encoding="utf-8")
    assert write_cuda_page.main([str(given)]) == 0 and write_cuda_page.main(["--check"]) == 0
    page = (tmp_path / "cuda" / "README.md").read_text(encoding="utf-8")
    assert "A Card" in page and "| surface, 8 frames | 0.05 |" in page and "passed" in page and "networks 80 %" in page
    (tmp_path / "cuda" / "README.md").write_text(page + "more", encoding="utf-8")
    assert write_cuda_page.main(["--check"]) == 1
    for changes in ({"facts": {"device_kind": "cpu"}}, {"scale": "small"}):
        given.write_text(json.dumps(results | changes), encoding="utf-8")
        assert write_cuda_page.main([str(given)]) == 2
    assert "CUDA" in capsys.readouterr().err


def test_the_committed_page_is_that_of_the_committed_results():
    if (write_cuda_page.FOLDER / RESULTS).exists():
        assert write_cuda_page.main(["--check"]) == 0, "run python -m tools.write_cuda_page"
    else:
        assert not (write_cuda_page.FOLDER / "README.md").exists(), "a page without results"
