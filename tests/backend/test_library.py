"""The library of models: what it lists, gets, removes and verifies, and what it says when that fails."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

import msgspec
import numpy as np
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file

from latentman.backend.models import downloads
from latentman.backend.models.hub import HubError
from latentman.backend.models.library import catalogue, inspection, listing, received, tokens
from latentman.backend.models.library.cards import find_preview, read_card
from latentman.backend.models.library.catalogue import CatalogueEntry, CatalogueFile, decode_catalogue, read_catalogue
from latentman.backend.models.library.fit import DeviceMemory, judge_fit
from latentman.backend.models.library.folders import add_folder, find_settings_file, list_folders
from latentman.backend.models.library.getting import get
from latentman.backend.models.library.inspection import InspectionIndex
from latentman.backend.models.library.listing import list_library
from latentman.backend.models.library.removing import remove
from latentman.backend.models.library.scanning import scan
from latentman.backend.models.library.thumbnails import make_thumbnail
from latentman.backend.models.library.verifying import verify
from latentman.backend.models.library.yaml_subset import YamlError, read_sections
from latentman.backend.models.loading import load
from latentman.backend.models.registry import HUB_REVISIONS, find_model
from latentman.backend.motion.registry import STARTER as MOTION_STARTER
from latentman.backend.tasks.library import take_what_fits
from latentman.shared import messages
from latentman.shared.folders import CONFIG_ENVIRONMENT, DATA_ENVIRONMENT, MODELS_ENVIRONMENT
from latentman.shared.library import KINDS, PREVIEW_SIDE
from latentman.shared.png import is_intact_png, read_png_size
from latentman.shared.shot import ShotError
from tests import original_layout as original
from tests.backend import tiny
from tests.model_layouts import Networks
from tools.stand_in_hub import StandInHub

COMMIT = "0123456789abcdef" * 2 + "01234567"
CPU = torch.device("cpu")


def _ignore(*_):
    pass


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Configuration, data, models and the hub's cache of the test's own."""
    for name, folder in ((CONFIG_ENVIRONMENT, "config"), (DATA_ENVIRONMENT, "data"), (MODELS_ENVIRONMENT, "models")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 2)
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr("latentman.backend.models.hub.FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A repository with LoRAs, one with a whole model, and a ControlNet."""
    root = tmp_path_factory.mktemp("sources")
    tiny.write_sd(root)
    loras = root / "loras"
    (loras / "inner").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name in ("pytorch_lora_weights.safetensors", "inner/other.safetensors"):
        (loras / name).write_bytes(rng.bytes(900_000))
    (loras / "README.md").write_text("words")
    return {"me/base": root / "base", "me/control": root / "control", "me/loras": loras}


@pytest.fixture
def hub(sources, monkeypatch):
    """A hub with all of them."""
    found = StandInHub()
    found.repositories = {name: (COMMIT, folder) for name, folder in sources.items()}
    monkeypatch.setenv("HF_ENDPOINT", found.address)
    yield found
    found.close()


def _entry(**changes) -> CatalogueEntry:
    values = dict(
        name="lora",
        title="A LoRA",
        kind="lora",
        family="sd1",
        way="files",
        licence="MIT",
        purpose="Few steps",
        repository="me/loras",
        revision=COMMIT,
        page="https://example.org/me/loras",
        files=(CatalogueFile("pytorch_lora_weights.safetensors", save_as="lcm-lora.safetensors"),),
    )
    return CatalogueEntry(**values | changes)


@pytest.fixture
def entries(monkeypatch):
    """A catalogue of the test's own; the list may be changed."""
    own = [
        _entry(),
        _entry(name="base", title="A base", kind="checkpoint", way="repository", repository="me/base", files=()),
        _entry(
            name="control", title="Depth", kind="controlnet", control="depth", way="repository", repository="me/control", files=()
        ),
    ]
    made = lambda: msgspec.structs.replace(read_catalogue.__wrapped__(), entries=tuple(own))  # noqa: E731
    for module in (catalogue, listing):
        monkeypatch.setattr(module, "read_catalogue", made)
    for name in ("cached", "verifying"):
        monkeypatch.setattr(f"latentman.backend.models.library.{name}.read_catalogue", made)
    return own


# the catalogue


def test_the_catalogue_is_sound_and_agrees_with_the_commits_that_are_loaded():
    found = read_catalogue()
    names = {entry.name for entry in found.entries}
    for family in ("sd15", "sd21", "sdxl"):
        assert {family, *(f"{family}-{kind}" for kind in ("depth", "normal", "openpose"))} <= names
    wanted = {"starter", "starter-motion", "sd15-lcm", "sdxl-lcm", "sdxl-hyper", "sdxl-lightning", "taesd", "taesdxl"}
    assert wanted | {"sd15-ip-adapter", "picture-encoder", "distilbert", "clip", "mdm"} <= names
    for entry in found.entries:
        assert entry.title and entry.licence and entry.purpose and not entry.purpose.endswith("."), entry.name
        if entry.repository in HUB_REVISIONS:
            assert entry.revision == HUB_REVISIONS[entry.repository], entry.name
        # a hash without a commit would refuse what its owner puts there later
        assert entry.revision or not any(file.sha256 for file in entry.files), entry.name
        for file in entry.files:
            assert (file.sha256 is None) or file.size or entry.name == "", (entry.name, file.path)
    assert {entry.repository for entry in found.entries if entry.way == "repository"} >= set(HUB_REVISIONS)


@pytest.mark.parametrize(
    "change",
    [
        {"way": "nothing"},
        {"files": [{"path": "../escape.safetensors"}]},
        {"files": [{"path": "a.safetensors", "sha256": "beef"}]},
        {"files": [{"path": "a.safetensors", "save_as": "sub/a.safetensors"}]},
        {"revision": "main"},
        {"kind": "poem"},
        {"unknown": 1},
        {"name": "sd15"},
        {"way": "page", "page": "http://example.org"},
    ],
)
def test_a_damaged_catalogue_is_refused(change):
    whole = json.loads(catalogue.CATALOGUE.read_text())
    whole["entries"][-1] |= change
    with pytest.raises(ValueError):
        decode_catalogue(json.dumps(whole).encode())


def test_what_bases_take_is_what_their_files_hold():
    """Published sizes of the files in half precision, which the figures were not made from."""
    published = {
        "sd1": {"unet": 1_719_125_304, "vae": 167_335_342, "text_encoder": 246_144_864},
        "sdxl": {"unet": 5_135_149_760, "vae": 167_335_342, "text_encoder_2": 1_389_382_176, "controlnet_0": 2_502_139_134},
        "sd2": {"vae": 167_335_342, "text_encoder": 680_821_096},
    }
    for family, parts in published.items():
        figures = read_catalogue().memory[family]
        for part, size in parts.items():
            # SDXL's auto-encoder would overflow, and runs in single precision in either case
            times = 2 if (family, part) == ("sdxl", "vae") else 1
            assert figures["float16"].weights[part] == pytest.approx(times * size, rel=2e-3), (family, part)
            assert figures["float32"].weights[part] == pytest.approx(2 * size, rel=2e-3), (family, part)


def test_whether_a_device_holds_a_model():
    gb = 10**9
    assert judge_fit("sd1", DeviceMemory(24 * gb, True, "float16"))[0] == "yes"
    fits, sentence = judge_fit("sdxl", DeviceMemory(8 * gb, True, "float16"))
    assert fits == "tight" and "moved there" in sentence
    assert judge_fit("sdxl", DeviceMemory(8 * gb, False, "float32"))[0] == "no"
    assert judge_fit("other", DeviceMemory(8 * gb, False, "float32")) == ("", "") == judge_fit("sd1", None)
    assert "with a ControlNet" in sentence
    # it sees the depth by itself
    assert judge_fit("wan_vace", DeviceMemory(80 * gb, True, "float16"))[1].startswith("It takes 14")
    assert "ControlNet" not in judge_fit("wan_vace", DeviceMemory(80 * gb, True, "float16"))[1]


# getting


def test_a_file_comes_under_its_own_name_and_is_written_down(hub, entries):
    told = []
    got = get("lora", lambda *one: told.append(one))
    true = (hub.repositories["me/loras"][1] / "pytorch_lora_weights.safetensors").read_bytes()
    assert got.path.name == "lcm-lora.safetensors" and got.path.read_bytes() == true and got.size == len(true)
    # the total is known before anything comes
    assert told[0][:2] == (0, len(true)) and told[-1][:2] == (len(true), len(true))
    (noted,) = received.read_received().values()
    assert (noted.size, noted.sha256, noted.commit, noted.entry) == (len(true), _hash(true), COMMIT, "lora")
    # a second time nothing is asked
    count = len(hub.requests)
    assert get("lora", _ignore).size == 0 and len(hub.requests) == count
    (item,) = list_library("lora few").items
    assert item.is_here and item.use == str(got.path) and not item.can_get
    assert find_model(f"starter|lora={item.use}@0.5").loras == ((str(got.path), 0.5),)


def test_a_repository_comes_into_the_hubs_cache_and_is_loaded_from_there(hub, entries):
    get("base", _ignore)
    get("control", _ignore)
    hub.status = 500
    items = {item.name: item for item in list_library().items}
    assert items["base"].is_here and items["base"].use == f"me/base@{COMMIT}"
    model = load(f"{items['base'].use}|depth={items['control'].use}@0.7", CPU)
    assert model.controls == ("depth",) and model.uses[0].strength == 0.7


def test_any_repository_of_the_hub_can_be_got(hub, entries, monkeypatch):
    entries.clear()
    # the shrunk network's width is no family's
    width = json.loads((hub.repositories["me/control"][1] / "config.json").read_text())["cross_attention_dim"]
    monkeypatch.setattr(inspection, "_CONTEXTS", {width: "sd1"})
    assert get("me/control", _ignore).path.name == COMMIT
    (item,) = [item for item in list_library().items if item.name == "me/control"]
    assert (item.kind, item.place, item.use) == ("controlnet", "hub", "me/control")
    with pytest.raises(ShotError, match="There is no 'no such thing' to get"):
        get("no such thing", _ignore)


def _gate(hub):
    hub.gated = {"me/loras"}


def _hide(hub):
    hub.repositories.pop("me/loras")


def _break_server(hub):
    hub.status = 500


def _cut(hub):
    hub.cut_after = -1


def _show_page(hub):
    hub.page = b"<html>Welcome to the hotel</html>"


def _close(hub):
    hub.close()


def _change_bytes(hub):
    hub.wrong = {"pytorch_lora_weights.safetensors": b"\0" * 900_000}


def _claim_size(hub):
    hub.told_sizes = {"pytorch_lora_weights.safetensors": 10**16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "reason", "sentence"),
    [
        (_gate, "gated", r"'me/loras' is gated: accept its terms at .*/me/loras, run 'hf auth login' or 'latentman models token'"),
        (_hide, "missing", "the hub has no 'me/loras', or it is private: .*'latentman models token'"),
        (_break_server, "network", r"answers with an error \(500\) for 'me/loras'; try again later"),
        (_cut, "network", "cannot be reached for 'me/loras'; check the connection and try again"),
        (_show_page, "network", "cannot be read; check HF_ENDPOINT and the proxy"),
        (_close, "network", "cannot be reached for 'me/loras'"),
        (_change_bytes, "damaged", "arrived damaged and was removed again; try once more"),
        (_claim_size, "disk", r"'A LoRA' takes 10000000.0 GB and there are [\d.]+ GB free in .*loras; make space there, or move"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_a_second_press_goes_on(hub, entries, damage, reason, sentence):
    before = dict(hub.repositories)
    damage(hub)
    with pytest.raises(HubError, match=sentence) as raised:
        get("lora", _ignore)
    assert raised.value.reason == reason and "\n" not in str(raised.value)
    assert not list_library("few steps").items[0].is_here and not received.read_received()
    if damage is _close:
        return
    hub.gated, hub.repositories, hub.status, hub.cut_after, hub.page = set(), before, 0, 0, b""
    hub.wrong, hub.told_sizes = {}, {}
    assert get("lora", _ignore).path.is_file()


def test_a_hub_that_is_busy_for_a_moment_is_asked_again(hub, entries):
    hub.failures = 2
    assert get("lora", _ignore).path.is_file()


def test_without_a_connection_nothing_is_asked(hub, entries, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE") as raised:
        get("lora", _ignore)
    assert raised.value.reason == "offline" and not hub.requests


def test_what_the_catalogue_knows_better_is_not_got(hub, entries):
    path = "pytorch_lora_weights.safetensors"
    for file in (
        CatalogueFile(path, sha256="0" * 64, save_as="x.safetensors"),
        CatalogueFile(path, size=5, save_as="x.safetensors"),
    ):
        entries[0] = _entry(files=(file,))
        with pytest.raises(
            HubError, match=r"announces another pytorch_lora_weights.safetensors than the catalogue knows"
        ) as raised:
            get("lora", _ignore)
        assert raised.value.reason == "damaged" and not hub.files_sent()
    entries[0] = _entry(files=(CatalogueFile("gone.safetensors", save_as="x.safetensors"),))
    with pytest.raises(HubError, match=r"lacks gone.safetensors"):
        get("lora", _ignore)


def test_a_connection_that_breaks_is_taken_up_where_it_stopped(hub, entries):
    hub.cut_after = 400_000
    get("lora", _ignore)
    assert [wanted for _, path, wanted in hub.requests if wanted not in ("", "bytes=0-")]


def test_a_full_disk_is_a_sentence(hub, entries, monkeypatch):
    """Whatever file is written from now on finds no space."""
    true_open = Path.open

    class Full:
        def __init__(self, stream):
            self._stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._stream.close()

        def write(self, data):
            raise OSError(28, "No space left on device")

    def opened(path, mode="r", *args, **kwargs):
        stream = true_open(path, mode, *args, **kwargs)
        return Full(stream) if mode in ("ab", "wb") and path.name.endswith(".part") else stream

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(HubError, match=r"the disk is full while 'A LoRA' is got; make space in .*loras and try again") as raised:
        get("lora", _ignore)
    assert raised.value.reason == "disk"
    monkeypatch.undo()


class _Enough(Exception):
    pass


@pytest.mark.parametrize("what", ["answer", "bytes"])
def test_a_get_ends_at_once(hub, entries, what):
    """Also while the hub takes its time to answer."""
    from latentman.backend.models.library.waiting import run_stoppable

    hub.delay, hub.pause = (20.0, 0.0) if what == "answer" else (0.0, 0.05)
    began = []

    def check():
        began.append(time.monotonic())
        if len(began) > 8:
            raise _Enough

    with pytest.raises(_Enough):
        run_stoppable(lambda stop: get("lora", lambda *_: stop()), check)
    # a check comes twenty times a second, and the end is not waited for
    assert began[-1] - began[0] < 5
    hub.delay = hub.pause = 0.0


def _run(*args, hub=None, tmp_path, wait=True, command="models"):
    """A command line of its own, with what it said."""
    environment = os.environ | {
        CONFIG_ENVIRONMENT: str(tmp_path / "config"),
        DATA_ENVIRONMENT: str(tmp_path / "data"),
        MODELS_ENVIRONMENT: str(tmp_path / "models"),
        "LATENTMAN_LOGS": str(tmp_path / "logs"),
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **({"HF_ENDPOINT": hub.address} if hub is not None else {}),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "latentman.backend", command, *args],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return (process, *process.communicate("", timeout=120)) if wait else process


def _wait_for_part(tmp_path, size):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        parts = [path for path in tmp_path.rglob("*.part") if path.stat().st_size > size]
        if parts:
            return parts[0]
        time.sleep(0.02)
    raise AssertionError("nothing came")


def test_ctrl_c_kill_and_a_second_process(hub, tmp_path):
    """The real command line, which gets a repository of the hub: interrupted, killed, and twice at the same time."""
    hub.repositories["me/whole"] = (COMMIT, hub.repositories["me/control"][1])
    hub.pause = 0.02
    process = _run("get", "me/whole", "--json", hub=hub, tmp_path=tmp_path, wait=False)
    _wait_for_part(tmp_path, 10_000)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "interrupted" and {event["event"] for event in events[:-1]} == {"progress"}
    assert events[0]["total"] > 0 and {"bytes", "file", "rate"} <= set(events[0])
    process = _run("get", "me/whole", hub=hub, tmp_path=tmp_path, wait=False)
    part = _wait_for_part(tmp_path, 20_000)
    process.kill()
    process.communicate(timeout=30)
    kept = part.stat().st_size
    assert kept > 0
    hub.pause = 0.001
    both = [_run("get", "me/whole", "--json", hub=hub, tmp_path=tmp_path, wait=False) for _ in range(2)]
    ends = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], ends
    assert all(json.loads(out.splitlines()[-1])["event"] == "got" for out, _ in ends)
    # what was killed was not got again
    assert any(wanted == f"bytes={kept}-" for _, _, wanted in hub.requests)
    true = next(hub.repositories["me/control"][1].glob("*.safetensors"))
    blob = tmp_path / "cache" / "models--me--whole" / "blobs" / _hash(true.read_bytes())
    assert blob.read_bytes() == true.read_bytes() and not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_ctrl_c_ends_the_download_of_a_text_encoder_at_once(hub, tmp_path):
    hub.pause = 0.2
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(MOTION_STARTER, checkpoint, ignore=shutil.ignore_patterns("text_encoder"))
    arguments = ("a person waves", "--text-encoder", "me/control", "--out", str(tmp_path / "out.npz"), "--model", str(checkpoint))
    process = _run(*arguments, hub=hub, tmp_path=tmp_path, wait=False, command="motion")
    _wait_for_part(tmp_path, 4_000)
    size = next(hub.repositories["me/control"][1].glob("*.safetensors")).stat().st_size
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    # the rest would take so many seconds
    assert process.returncode == 130 and time.monotonic() - began < 20 < size / 2048 * hub.pause
    assert list(tmp_path.rglob("*.part"))


# tokens


def test_a_token_opens_what_is_private_and_goes_nowhere_else(hub, entries, monkeypatch, caplog):
    hub.tokens = {"me/loras": "hf_secretsecretsecret"}
    elsewhere = StandInHub()
    elsewhere.repositories, hub.elsewhere = dict(hub.repositories), elsewhere
    with pytest.raises(HubError, match=r"or it is private"):
        get("lora", _ignore)
    with caplog.at_level("DEBUG"):
        said = tokens.save_token(" hf_secretsecretsecret\n", hub.address)
        assert get("lora", _ignore).path.is_file()
    assert "only you can read" in said and "secret" not in said
    path = tokens.find_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "Bearer hf_secretsecretsecret" in hub.authorizations
    assert elsewhere.requests and not any(elsewhere.authorizations)
    assert not [record for record in caplog.records if "secretsecret" in record.getMessage()]
    # another hub, such as a mirror, is not told
    monkeypatch.setenv("HF_ENDPOINT", elsewhere.address)
    shutil.rmtree(Path(os.environ[MODELS_ENVIRONMENT]) / "loras")
    get("lora", _ignore)
    assert not any(elsewhere.authorizations)
    assert tokens.forget_token(hub.address) and not tokens.forget_token(hub.address)
    elsewhere.close()


def test_a_token_is_not_sent_where_others_can_read_it():
    assert tokens.find_host("http://hub.example.org") == "" and tokens.find_host("https://Hub.example.org/x") == "hub.example.org"
    assert tokens.find_host("http://127.0.0.1:8080") == "127.0.0.1:8080"
    with pytest.raises(ShotError, match="begins with https"):
        tokens.save_token("hf_x", "http://hub.example.org")
    for text in ("", "two words", "x" * 600, "ü"):
        with pytest.raises(ShotError, match="That is no token"):
            tokens.save_token(text, "https://huggingface.co")


class _Keyring:
    def __init__(self):
        self.kept = {}

    def set_password(self, service, host, token):
        self.kept[service, host] = token

    def get_password(self, service, host):
        return self.kept.get((service, host))

    def delete_password(self, service, host):
        del self.kept[service, host]


class _LockedKeyring(_Keyring):
    def set_password(self, service, host, token):
        raise RuntimeError("locked")


def test_a_keyring_is_used_where_there_is_one_that_works(monkeypatch):
    keyring = _Keyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    assert "keyring" in tokens.save_token("hf_abc", "https://huggingface.co")
    assert "hf_abc" not in tokens.find_file().read_text() and tokens.find_token("https://huggingface.co/") == "hf_abc"
    assert tokens.find_token("https://mirror.example.org") is None
    tokens.forget_token("https://huggingface.co")
    assert not keyring.kept and tokens.find_token("https://huggingface.co") is None
    monkeypatch.setitem(sys.modules, "keyring", _LockedKeyring())
    assert "only you can read" in tokens.save_token("hf_abc", "https://huggingface.co")
    assert tokens.find_token("https://huggingface.co") == "hf_abc"


# folders


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Shrunk models as files: a checkpoint, a ControlNet, a LoRA, a VAE and an embedding."""
    root = tmp_path_factory.mktemp("files")
    networks = Networks("sd1")
    save_file(networks.write_checkpoint(), root / "checkpoint.safetensors")
    save_file(networks.write_control(), root / "depth.safetensors")
    save_file(
        original.vae_to_original(networks.vae.state_dict(), len(networks.vae.config.block_out_channels)), root / "vae.safetensors"
    )
    save_file({"emb_params": torch.zeros(2, 768)}, root / "embedding.safetensors")
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = {f"{layer}.lora_down.weight": torch.zeros(4, 320), f"{layer}.lora_up.weight": torch.zeros(320, 4)}
    save_file(lora | {f"{layer}.alpha": torch.tensor(4.0)}, root / "lora.safetensors")
    return root


COMFYUI = {
    "models/checkpoints/real/dream.safetensors": "checkpoint",
    "models/loras/style.safetensors": "lora",
    "models/controlnet/control_depth.safetensors": "depth",
    "models/vae/vae.safetensors": "vae",
    "models/embeddings/bad.safetensors": "embedding",
}
A1111 = {
    "models/Stable-diffusion/dream.safetensors": "checkpoint",
    "models/Lora/style.safetensors": "lora",
    "models/ControlNet/one_depth.safetensors": "depth",
    "extensions/sd-webui-controlnet/models/two_depth.safetensors": "depth",
    "models/VAE/vae.safetensors": "vae",
    "embeddings/bad.safetensors": "embedding",
}


def _lay_out(root, layout, files):
    for name, source in layout.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files / f"{source}.safetensors", root / name)
    # what is no model's
    for name in ("output/picture.safetensors", "custom_nodes/x/weights.safetensors", "repositories/y.ckpt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 100)


@pytest.mark.parametrize(("name", "layout"), [("comfyui", COMFYUI), ("a1111", A1111)])
@pytest.mark.parametrize("inner", ["", "models"])
def test_folders_of_other_programs_are_read_in_place(tmp_path, files, name, layout, inner):
    root = tmp_path / "ui"
    _lay_out(root, layout, files)
    before = sorted(path.name for path in root.rglob("*"))
    assert add_folder(str(root / inner)).layout == name
    found = {item.name: item for item in list_library().items if item.place == "folder"}
    wanted = {path for path in layout if not inner or path.startswith("models/")}
    assert {os.path.relpath(path, root) for path in found} == wanted
    kinds = {"depth": "controlnet"}
    for path, source in layout.items():
        if path in wanted:
            item = found[str(root / path)]
            assert item.kind == kinds.get(source, source) and not item.problem and item.use == str(root / path)
            assert item.control == ("depth" if source == "depth" else "")
    assert sorted(path.name for path in root.rglob("*")) == before
    assert stat.S_IMODE(find_settings_file().stat().st_mode) == 0o600


def test_what_a_library_names_is_a_model_that_loads(tmp_path, files):
    root = tmp_path / "ui"
    _lay_out(root, COMFYUI, files)
    add_folder(str(root))
    found = {item.kind: item.use for item in list_library().items if item.place == "folder"}
    name = f"{found['checkpoint']}|depth={found['controlnet']}@0.8|vae={found['vae']}"
    assert load(name, CPU).controls == ("depth",)


def test_comfyuis_own_list_of_folders_is_read(tmp_path, files):
    root, far = tmp_path / "ui", tmp_path / "far away"
    _lay_out(root, COMFYUI, files)
    _lay_out(far, {"Lora/far.safetensors": "lora", "more/also.safetensors": "lora"}, files)
    (root / "extra_model_paths.yaml").write_text(
        f"# a comment\na111:\n    base_path: '{far}'  # there\n    checkpoints: nowhere\n"
        "    loras: |\n         Lora\n         more\n"
    )
    add_folder(str(root))
    names = {Path(item.name).name for item in list_library().items if item.kind == "lora" and item.place == "folder"}
    assert names == {"style.safetensors", "far.safetensors", "also.safetensors"}
    (root / "extra_model_paths.yaml").write_text("a111: &anchor\n  base_path: x\n")
    found = list_library()
    assert any("extra_model_paths.yaml cannot be read (line 1" in notice for notice in found.notices)
    assert len([item for item in found.items if item.place == "folder"]) == len(COMFYUI)


def test_as_much_of_yaml_as_is_needed():
    text = 'one:\n  base_path: "C:/a b/c"\n  loras: |\n    x\n    y # z\n\n  vae: v # comment\ntwo:\n    is_default: true\n'
    assert read_sections(text) == {
        "one": {"base_path": ["C:/a b/c"], "loras": ["x", "y # z"], "vae": ["v"]},
        "two": {"is_default": ["true"]},
    }
    for bad in (
        "a: [1, 2]\n",
        "a:\n  b: &x y\n",
        "a:\n  b:\n    c: d\n",
        "- a\n",
        "a:\n\tb: c\n",
        'a:\n  b: "x\n',
        "a:\n  b: {c: d}\n",
        "a: b\n",
    ):
        with pytest.raises(YamlError):
            read_sections(bad)


def test_a_folder_of_an_unknown_pipeline_names_the_kinds_that_work(tmp_path):
    (tmp_path / "strange" / "unet").mkdir(parents=True)
    index = {"_class_name": "StrangePipeline", "unet": ["diffusers", "StrangeModel"]}
    (tmp_path / "strange" / "model_index.json").write_text(json.dumps(index))
    (candidate,) = scan(tmp_path)
    found = inspection.inspect_candidate(candidate)
    assert found.kind == "checkpoint" and all(kind in found.problem for kind in ("SDXL", "FLUX.1", "Wan VACE"))


@pytest.mark.skipif(os.name == "nt", reason="no such files there")
def test_hostile_neighbours_are_listed_or_left_out_and_nothing_hangs(tmp_path, files):
    root = tmp_path / "zoo"
    root.mkdir()
    shutil.copy(files / "lora.safetensors", root / "good.safetensors")
    shutil.copy(files / "lora.safetensors", root / "two\nlines.safetensors")
    shutil.copy(files / "lora.safetensors", root / "a|b.safetensors")
    shutil.copy(files / "lora.safetensors", os.fsencode(root) + b"/bytes\xff.safetensors")
    (root / "empty.safetensors").write_bytes(b"")
    (root / "page.safetensors").write_text("<!DOCTYPE html><html>Not Found</html>")
    (root / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n")
    (root / "evil.ckpt").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/library27-owned'\ntR.")
    os.mkfifo(root / "pipe.safetensors")
    (root / "loop.safetensors").symlink_to(root / "loop.safetensors")
    (root / "self").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "gone.safetensors").symlink_to(root / "nowhere")
    (root / "coming.safetensors.part").write_bytes(b"x")
    deep = root
    for n in range(30):
        deep = deep / f"d{n}"
        deep.mkdir()
    shutil.copy(files / "lora.safetensors", deep / "deep.safetensors")
    add_folder(str(root))
    found = [item for item in list_library().items if item.place == "folder"]
    by_title = {item.title: item for item in found}
    assert by_title["good"].use and by_title["two lines"].use.endswith("two\nlines.safetensors")
    for title, words in (
        ("empty", "empty"),
        ("page", "page"),
        ("pointer", "pointer"),
        ("evil", ""),
        ("a|b", "bar"),
        ("bytes\\udcff", "bytes"),
    ):
        assert by_title[title].problem and words in by_title[title].problem and not by_title[title].use, title
    assert not {"pipe", "loop", "gone", "coming", "deep"} & set(by_title)
    assert len(found) == 8 and not Path("/tmp/library27-owned").exists()
    # all of it can be sent
    msgspec.json.encode(found)


def test_many_files_are_looked_into_once(tmp_path, files):
    root = tmp_path / "many"
    root.mkdir()
    data = (files / "lora.safetensors").read_bytes()
    for n in range(500):
        (root / f"lora {n:03}.safetensors").write_bytes(data)
    add_folder(str(root))
    opened = []
    index = InspectionIndex()
    assert len([item for item in list_library(index=index).items if item.place == "folder"]) == 500

    class Counting(InspectionIndex):
        def inspect(self, candidate):
            known = self._known.get(str(candidate.path))
            opened.append(known is None or known.state != candidate.state)
            return super().inspect(candidate)

    list_library(index=Counting())
    assert len(opened) == 500 and not any(opened)
    # one that has changed is looked into again
    shutil.copy(files / "embedding.safetensors", root / "lora 007.safetensors")
    opened.clear()
    kinds = [item.kind for item in list_library(index=Counting()).items if item.place == "folder"]
    assert sum(opened) == 1 and kinds.count("embedding") == 1
    # a damaged index is made again
    index_file = tmp_path / "data" / "library" / "index.msgpack"
    index_file.write_bytes(b"\xff" * 100)
    assert len([item for item in list_library().items if item.place == "folder"]) == 500


def test_folders_that_cannot_be_added_or_are_gone(tmp_path, files):
    for text in (str(tmp_path / "no such"), "/", str(Path.home())):
        with pytest.raises(ShotError, match="choose"):
            add_folder(text)
    root = tmp_path / "a"
    _lay_out(root, {"x/lora.safetensors": "lora"}, files)
    add_folder(f'"{root}"')
    add_folder(str(root))
    assert [folder.path for folder in list_folders()] == [str(root)]
    shutil.rmtree(root)
    found = list_library()
    assert any("There is no folder" in notice for notice in found.notices)
    assert "is read no more" in remove(str(root)) and not list_folders()
    find_settings_file().write_text("{")
    assert any("cannot be read" in notice for notice in list_library().notices)
    with pytest.raises(ShotError, match="correct it, or delete it"):
        add_folder(str(tmp_path))
    assert find_settings_file().read_text() == "{"


def test_words_and_pictures_beside_a_file(tmp_path, files):
    path = tmp_path / "x" / "style.safetensors"
    _lay_out(tmp_path / "x", {"style.safetensors": "lora"}, files)
    assert read_card(path).title == "" and find_preview(path) is None
    told = {
        "modelId": 12,
        "name": "v2",
        "trainedWords": ["ink wash", 5],
        "model": {"name": "Ink", "allowCommercialUse": ["Image", "Rent"]},
    }
    path.with_name("style.civitai.info").write_text(json.dumps(told))
    Image.new("RGB", (400, 300), (200, 10, 10)).save(path.with_name("style.preview.png"))
    add_folder(str(tmp_path / "x"))
    (item,) = [item for item in list_library("ink").items]
    assert (item.title, item.licence, item.page) == ("Ink, v2", "Civitai; for sale: Image, Rent", "https://civitai.com/models/12")
    assert item.words == ("ink wash",) and item.has_preview
    data = make_thumbnail(find_preview(path))
    assert is_intact_png(data) and read_png_size(data) == (PREVIEW_SIDE, 96)
    for bad in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", path.with_name("style.preview.png").read_bytes()[:200], b"<svg/>"):
        path.with_name("bad.png").write_bytes(bad)
        assert make_thumbnail(path.with_name("bad.png")) is None
    for odd in ("[]", "{", '{"model": 5, "name": [1]}', "{" * 9999):
        path.with_name("style.civitai.info").write_text(odd)
        assert read_card(path).title == ""


# removing and verifying


def test_what_was_got_is_removed_and_what_is_the_users_stays(hub, entries, tmp_path, files):
    path = get("lora", _ignore).path
    assert "was removed" in remove("lora") and not path.exists() and not received.read_received()
    with pytest.raises(ShotError, match="nothing to remove"):
        remove("lora")
    root = tmp_path / "mine"
    _lay_out(root, {"a.safetensors": "lora", "b.safetensors": "lora"}, files)
    outside = tmp_path / "outside.safetensors"
    shutil.copy(files / "lora.safetensors", outside)
    (root / "link.safetensors").symlink_to(outside)
    (root / "way").symlink_to(tmp_path)
    (root / "notes.txt").write_text("mine")
    add_folder(str(root))
    for name in (root / "a.safetensors", root / "link.safetensors"):
        with pytest.raises(ShotError, match="a folder of yours, so it stays"):
            remove(str(name))
    for name in (outside, root / "way" / "outside.safetensors", root / ".." / "outside.safetensors"):
        for with_files in (False, True):
            with pytest.raises(ShotError, match="none of the library's folders, so it stays"):
                remove(str(name), files=with_files)
    for name in (root, root / "notes.txt"):
        with pytest.raises(ShotError, match=r"is not deleted|no model, so it stays"):
            remove(str(name), files=True)
    assert "deleted" in remove(str(root / "a.safetensors"), files=True) and not (root / "a.safetensors").exists()
    remove(str(root / "link.safetensors"), files=True)
    assert outside.exists() and (root / "b.safetensors").exists() and (root / "notes.txt").exists()
    with pytest.raises(ShotError, match="comes with the extension"):
        entries.append(_entry(name="starter", way="bundled", repository="", files=()))
        remove("starter")


def test_the_hubs_cache_of_others_stays(hub, entries, tmp_path):
    get("base", _ignore)
    get("control", _ignore)
    cache = tmp_path / "cache"
    assert "was removed" in remove("control") and not (cache / "models--me--control").exists()
    assert (cache / "models--me--base").exists()
    # as another program has put it there
    received.find_record().unlink()
    with pytest.raises(ShotError, match="by another program"):
        remove("base")
    assert list_library("base").items[0].is_here
    remove("base", files=True)
    assert not (cache / "models--me--base").exists()


def test_damage_is_found_and_mended(hub, entries, tmp_path, files):
    lora, base = get("lora", _ignore).path, get("base", _ignore).path
    assert {one.state for one in verify([], _ignore)} == {"intact"}
    data = bytearray(lora.read_bytes())
    data[1000] ^= 1
    lora.write_bytes(data)
    unet = base / "unet" / "diffusion_pytorch_model.safetensors"
    unet.resolve().write_bytes(unet.read_bytes()[:-5])
    (base / "vae" / "config.json").unlink()
    states = {one.path.name: one.state for one in verify([], _ignore) if one.state != "intact"}
    assert states == {"lcm-lora.safetensors": "damaged", "diffusion_pytorch_model.safetensors": "damaged", "config.json": "missing"}
    items = {item.name: item for item in list_library().items}
    assert items["lora"].damaged and items["lora"].can_get and items["base"].damaged
    get("lora", _ignore)
    get("base", _ignore)
    assert {one.state for one in verify([], _ignore)} == {"intact"}
    # what nobody knows
    own = tmp_path / "own.safetensors"
    shutil.copy(files / "lora.safetensors", own)
    assert [one.state for one in verify([str(own)], _ignore)] == ["unknown"]
    shutil.copy(lora, own)
    entries[0] = _entry(
        files=(CatalogueFile("pytorch_lora_weights.safetensors", sha256=_hash(own.read_bytes()), save_as="x.safetensors"),)
    )
    assert [(one.state, one.name) for one in verify([str(own)], _ignore)] == [("intact", "lora")]
    with pytest.raises(ShotError, match="There is no 'poem' to verify"):
        verify(["poem"], _ignore)


def test_the_record_moves_with_the_models_folder(hub, entries, tmp_path, monkeypatch):
    get("lora", _ignore)
    shutil.move(tmp_path / "models", tmp_path / "moved")
    monkeypatch.setenv(MODELS_ENVIRONMENT, str(tmp_path / "moved"))
    assert [one.state for one in verify(["lora"], _ignore)] == ["intact"] and list_library("few").items[0].is_here


# a small decoder


def test_a_small_decoder_takes_the_place_of_a_models_own(sources, tmp_path):
    from diffusers import AutoencoderTiny

    torch.manual_seed(5)
    base = json.loads((sources["me/base"] / "vae" / "config.json").read_text())
    levels = len(base["block_out_channels"])
    widths = (8,) * levels
    small = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(1,) * levels,
        latent_channels=base["latent_channels"],
    )
    small.save_pretrained(tmp_path / "small")
    model = load(f"{sources['me/base']}|depth={sources['me/control']}|vae={tmp_path / 'small'}", CPU)
    latents = torch.randn(1, base["latent_channels"], 4, 4)
    theirs = small.eval().decode(latents / small.config.scaling_factor).sample
    assert torch.allclose(model.pipeline.vae.decode(latents / small.config.scaling_factor).sample, theirs, atol=1e-5)
    assert set(load_file(tmp_path / "small" / "diffusion_pytorch_model.safetensors")) == set(small.state_dict())


# the command line


@pytest.mark.slow
def test_the_command_line(hub, tmp_path, files):
    root = tmp_path / "ui"
    _lay_out(root, COMFYUI, files)
    process, out, _ = _run("add", str(root), "--json", hub=hub, tmp_path=tmp_path)
    assert process.returncode == 0 and json.loads(out)["layout"] == "comfyui"
    process, out, _ = _run("list", "--kind", "lora", "--quick", "--json", "style", hub=hub, tmp_path=tmp_path)
    (item,) = map(json.loads, out.splitlines())
    assert item["path"] == str(root / "models/loras/style.safetensors") and item["is_here"] and item["kind"] in KINDS
    process, out, _ = _run("get", "me/control", hub=hub, tmp_path=tmp_path)
    assert process.returncode == 0 and "is here" in out
    process, out, _ = _run("verify", "--json", hub=hub, tmp_path=tmp_path)
    assert process.returncode == 0 and {json.loads(line)["state"] for line in out.splitlines()} == {"intact"}
    process, out, error = _run("remove", str(root / "models/loras/style.safetensors"), hub=hub, tmp_path=tmp_path)
    assert process.returncode == 2 and "a folder of yours" in error
    process, out, error = _run("get", "me/none", "--json", hub=hub, tmp_path=tmp_path)
    assert process.returncode == 2 and json.loads(out.splitlines()[-1])["code"] == "missing"
    hub.close()
    process, out, error = _run("get", "me/base", hub=hub, tmp_path=tmp_path)
    assert process.returncode == 1 and "cannot be reached" in error and len(error.strip().splitlines()) == 1


# over the wire


def test_a_client_lists_shows_gets_and_changes(hub, entries, server, tmp_path, files):
    root = tmp_path / "ui"
    _lay_out(root, COMFYUI, files)
    Image.new("RGB", (64, 200), (1, 2, 3)).save(root / "models/loras/style.preview.png")
    (tmp_path / "secret.png").write_bytes((root / "models/loras/style.preview.png").read_bytes())
    client = server.connect()
    client.send(messages.ChangeLibrary(ticket="a", action="add", name=str(root)))
    assert "as a folder of ComfyUI" in client.wait_for(messages.LibraryChanged, "a")[0].sentence
    client.send(messages.ListModels(ticket="b", kinds=("lora",)))
    found = client.wait_for(messages.ModelList, "b")[0]
    style = next(item for item in found.items if item.title == "style")
    assert style.has_preview and [folder.layout for folder in found.folders] == ["comfyui"] and not found.has_token
    assert {item.kind for item in found.items} == {"lora"}
    # what is no entry is not shown, whatever a client asks for
    client.send(messages.ShowModels(ticket="c", names=(style.name, str(tmp_path / "secret"), "lora")))
    shown, arrays = client.wait_for(messages.ModelPreviews, "c")
    assert shown.names == (style.name,) and set(messages.read_previews(shown, arrays)) == {style.name}
    client.send(messages.GetModel(ticket="d", name="lora"))
    assert "is here" in client.wait_for(messages.LibraryChanged, "d")[0].sentence
    progress = [message for message, _ in client.heard if isinstance(message, messages.Progress) and message.steps]
    assert progress and progress[-1].step == progress[-1].steps == 900
    client.send(messages.ChangeLibrary(ticket="e", action="verify"))
    assert client.wait_for(messages.LibraryChanged, "e")[0].sentence == "1 file was looked at: 1 intact."
    for ticket, message, code in (
        ("f", messages.GetModel(ticket="f", name="me/none"), "missing"),
        ("g", messages.ChangeLibrary(ticket="g", action="remove", name=style.name), "library"),
        ("h", messages.ChangeLibrary(ticket="h", action="token", token="two words"), "token"),
    ):
        client.send(message)
        failed = client.wait_for(messages.Failed, ticket)[0]
        assert failed.code == code and failed.message.endswith(".") and not failed.message[:1].islower()
    client.send(messages.ChangeLibrary(ticket="i", action="token", token="hf_abcdefgh"))
    assert "hf_abcdefgh" not in client.wait_for(messages.LibraryChanged, "i")[0].sentence
    assert "hf_abcdefgh" not in repr(messages.ChangeLibrary(ticket="i", action="token", token="hf_abcdefgh"))
    assert server.alive


def test_a_list_fits_into_a_message_however_long_its_texts_are():
    long = listing.make_item(
        name="n" * 9000, title="t" * 9000, kind="lora", path="p" * 9000, use="u" * 9000, purpose="\udcff" * 9000
    )
    assert max(map(len, (long.name, long.path, long.purpose))) <= 4096 and len(long.title) <= 200
    items = take_what_fits([long] * 2000)
    parts = messages.encode(messages.ModelList(ticket="a", items=items))
    assert 100 < len(items) < 2000 and messages.decode([bytes(part) for part in parts])[0].items == items


def test_a_client_cancels_at_once(hub, entries, server):
    hub.pause = 0.05
    client = server.connect()
    client.send(messages.GetModel(ticket="a", name="lora"))
    client.wait_for(messages.Progress, "a")
    began = time.monotonic()
    client.send(messages.Cancel(ticket="a"))
    client.wait_for(messages.Cancelled, "a", 10)
    # half a second is for a busy machine
    assert time.monotonic() - began < 5
    hub.pause = 0.0
    client.send(messages.GetModel(ticket="b", name="lora"))
    client.wait_for(messages.LibraryChanged, "b")


def test_thumbnails_that_are_none_are_refused():
    picture = np.frombuffer(b"\x89PNG\r\n\x1a\n" + b"x" * 50, np.uint8)
    message = messages.ModelPreviews(ticket="a", names=("x",))
    for arrays in ({}, {"preview_0": picture}, {"preview_0": np.zeros((2, 2), np.uint8)}, {"other": picture}):
        with pytest.raises(messages.WireError):
            messages.read_previews(message, arrays)
