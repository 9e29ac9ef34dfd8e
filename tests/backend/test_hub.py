"""Models of the hub are downloaded as far as they are needed, and whatever goes wrong there is one sentence."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("torch")

import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from latentman.backend.models import downloads
from latentman.backend.models.hub import HubError, fetch_repository
from latentman.backend.models.hub_cache import find_in_cache, list_needed
from latentman.backend.models.loading import load
from latentman.backend.models.preflight import check_model
from latentman.shared.load_options import LoadOptions
from latentman.shared.shot import ShotError
from tests.backend import tiny
from tools import tiny_transformers
from tools.stand_in_hub import StandInHub

COMMIT = "0123456789abcdef" * 2 + "01234567"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """A base and a ControlNet as owners put them on the hub: in two precisions and formats, with what nobody needs beside them."""
    root = tmp_path_factory.mktemp("repositories")
    tiny.write_sd(root)
    base = root / "base"
    for part, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        file = base / part / f"{stem}.safetensors"
        state = load_file(file)
        save_file({name: value.half() for name, value in state.items()}, base / part / f"{stem}.fp16.safetensors")
        torch.save(state, base / part / ("pytorch_model.bin" if stem == "model" else f"{stem}.bin"))
    (base / "safety_checker").mkdir()
    (base / "safety_checker" / "model.safetensors").write_bytes(b"x" * 10000)
    (base / "v1-5-pruned.safetensors").write_bytes(b"x" * 10000)
    (base / "picture.png").write_bytes(b"x" * 10000)
    (base / "unet" / "diffusion_flax_model.msgpack").write_bytes(b"x" * 10000)
    return {"me/base": base, "me/control": root / "control"}


@pytest.fixture
def hub(repositories, tmp_path, monkeypatch):
    """A hub with both, and an empty cache."""
    found = StandInHub()
    found.repositories = {name: (COMMIT, folder) for name, folder in repositories.items()}
    monkeypatch.setenv("HF_ENDPOINT", found.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 2)
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.01)
    yield found
    found.close()


NAME = "me/base|me/control"


def test_a_model_of_the_hub_is_downloaded_as_far_as_it_is_needed(hub):
    told = []
    model = load(NAME, CPU, report=lambda done, total, name: told.append((done, total, name)))
    assert model.controls == ("depth",)
    sent = hub.files_sent()
    assert "unet/diffusion_pytorch_model.safetensors" in sent and "text_encoder/model.safetensors" in sent
    odd = (".bin", ".fp16.", ".png", "v1-5", "safety_checker/model", ".msgpack")
    assert not [name for name in sent if any(word in name for word in odd)]
    assert told and all(0 < done <= total for done, total, _ in told)
    assert {name for _, _, name in told} >= {"unet/diffusion_pytorch_model.safetensors"}
    # from the cache, without a word to the hub
    count = len(hub.requests)
    hub.status = 500
    again = load(NAME, CPU)
    check_model(NAME, 64, 64)
    assert len(hub.requests) == count
    ours, theirs = (dict(each.unet.named_parameters()) for each in (model, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_half_precision_is_downloaded_where_it_is_wanted(hub):
    folder = fetch_repository("me/base", None, half=True)
    assert {name for name in hub.files_sent() if "safetensors" in name} == {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
    }
    # what is there is enough for the processor, too
    assert find_in_cache("me/base", None, half=False) == folder
    assert load(NAME, CPU).dtype == torch.float32 and load(NAME, CPU, LoadOptions(dtype="bfloat16")).dtype == torch.bfloat16
    assert not [name for name in hub.files_sent() if name == "unet/diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize("part", ["vae", "text_encoder", "unet"])
def test_a_cache_that_lacks_a_whole_part_is_completed(hub, part):
    """As a download leaves it that was ended between two parts."""
    folder = fetch_repository("me/base", None, half=False)
    shutil.rmtree(folder / part)
    assert find_in_cache("me/base", None) is None
    assert load(NAME, CPU).controls == ("depth",) and find_in_cache("me/base", None) == folder


def test_the_newest_revision_and_a_named_one(hub):
    assert fetch_repository("me/control", COMMIT, half=False).name == COMMIT
    with pytest.raises(HubError, match=r"no revision 'f{40}' of 'me/control'; name another"):
        fetch_repository("me/control", "f" * 40, half=False)


def test_what_sees_another_picture_is_refused_before_it_is_downloaded(hub, tmp_path):
    """A FLUX.1-Canny is told from a Depth by its repository's name alone."""
    tiny_transformers.write_flux_depth(tmp_path)
    hub.repositories = {name: (COMMIT, tmp_path / "base") for name in ("me/FLUX.1-Canny-dev", "me/FLUX.1-Depth-dev")}
    with pytest.raises(ShotError, match=r"FLUX.1-Canny-dev cannot be used\. .* for canny; choose one that sees depth"):
        check_model("me/FLUX.1-Canny-dev", 64, 64)
    check_model("me/FLUX.1-Depth-dev", 64, 64)
    assert not [name for name in hub.files_sent() if name.endswith(".safetensors")]


def _break_gated(hub):
    hub.gated = {"me/base"}


def _break_gone(hub):
    hub.repositories.pop("me/base")


def _break_server(hub):
    hub.status = 503


def _break_page(hub):
    hub.page = b"<html>Welcome to the hotel</html>"


def _break_connection(hub):
    hub.close()


def _break_size(hub):
    hub.told_sizes = {"unet/diffusion_pytorch_model.safetensors": 10**16}


def _break_bytes(hub):
    folder = hub.repositories["me/base"][1]
    size = (folder / "unet/diffusion_pytorch_model.safetensors").stat().st_size
    hub.wrong = {"unet/diffusion_pytorch_model.safetensors": b"\0" * size}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_break_gated, r"'me/base' is gated: accept its terms at http://127.0.0.1:\d+/me/base, run 'hf auth login'"),
        (_break_gone, "the hub has no 'me/base', or it is private: check the name"),
        (_break_server, r"answers with an error \(503\) for 'me/"),
        (_break_page, r"cannot be read; check HF_ENDPOINT and the proxy"),
        (_break_connection, "cannot be reached for 'me/"),
        (_break_size, r"'me/base' takes 10000000.0 GB and there are [\d.]+ GB free in .*; make space there"),
        (_break_bytes, "'unet/diffusion_pytorch_model.safetensors' of 'me/base' arrived damaged and was removed again"),
    ],
)
def test_what_goes_wrong_is_one_sentence(hub, damage, sentence):
    damage(hub)
    with pytest.raises(ShotError, match=rf"^The model 'me/base\|me/control' cannot be loaded: [^\n]*{sentence}[^\n]*\.$"):
        load(NAME, CPU)


def test_a_damaged_file_is_not_kept(hub):
    _break_bytes(hub)
    with pytest.raises(HubError, match="arrived damaged"):
        fetch_repository("me/base", None, half=False)
    hub.wrong = {}
    assert load(NAME, CPU).controls == ("depth",)


def test_a_connection_that_breaks_again_and_again_is_taken_up(hub):
    hub.cut_after = 700_000
    fetch_repository("me/base", None, half=False)
    hub.cut_after = 0
    assert _list_ranges(hub) and load(NAME, CPU).controls == ("depth",)


def _list_ranges(hub):
    """Where downloads of large files were taken up."""
    return [wanted for method, path, wanted in hub.requests if method == "GET" and wanted not in ("", "bytes=0-")]


class _Enough(Exception):
    pass


def test_a_slow_download_can_be_ended_and_goes_on_where_it_stopped(hub, monkeypatch):
    monkeypatch.setattr(downloads, "REPORT_SECONDS", 0.01)
    hub.pause = 0.002

    def end(done, total, name):
        if done > 300_000:
            raise _Enough

    with pytest.raises(_Enough):
        load(NAME, CPU, report=end)
    hub.pause = 0
    assert not _list_ranges(hub)
    assert load(NAME, CPU).controls == ("depth",) and len(_list_ranges(hub)) == 1


def test_a_connection_that_stays_broken_is_a_sentence(hub):
    hub.cut_after = -1
    with pytest.raises(HubError, match="cannot be reached for 'me/base'; check the connection and try again"):
        fetch_repository("me/base", None, half=False)


def test_a_hub_without_ranges_sends_all_of_it_again(hub):
    hub.cut_after, hub.ranges = 700_000, False
    with pytest.raises(HubError, match="cannot be reached"):
        fetch_repository("me/base", None, half=False)
    hub.cut_after = 0
    assert load(NAME, CPU).controls == ("depth",)


def test_without_a_connection_nothing_is_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for attempt in (lambda: load(NAME, CPU), lambda: check_model(NAME, 64, 64)):
        with pytest.raises(ShotError, match="'me/base' is not on this machine, and the hub is not to be asked"):
            attempt()
    assert not hub.requests


def test_what_is_asked_before_passes_are_rendered_is_small(hub):
    check_model(NAME, 64, 64)
    assert all(name.endswith(".json") for name in hub.files_sent())
    with pytest.raises(ShotError, match="nearest size"):
        check_model(NAME, 72, 64)


def test_files_that_a_repository_is_loaded_from():
    names = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.bin",
        "text_encoder/pytorch_model.fp16.bin",
        "safety_checker/model.safetensors",
        "onnx/unet/model.json",
    ]
    full = list_needed(names, half=False)
    assert {*names[:5], "vae/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.fp16.bin"} == set(full)
    assert names[5] in list_needed(names, half=True) and names[2] not in list_needed(names, half=True)
    with pytest.raises(ShotError, match="1 of 2 files are missing, such as number 2"):
        list_needed([name for name in names if "00002-of" not in name and "fp16" not in name], half=False)
