"""The library of models with what users and administrators give it: lists of folders in all their spellings, folders that may not
be read, names with odd letters, outputs that nobody reads, and a hub behind proxies and certificates that do not work."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from latentman.backend.models import downloads, hub_connection, hub_variables
from latentman.backend.models.hub import HubError
from latentman.backend.models.library import scanning
from latentman.backend.models.library.folders import add_folder, read_folders
from latentman.backend.models.library.getting import get
from latentman.backend.models.library.layouts import list_places
from latentman.backend.models.library.listing import list_library
from latentman.backend.models.library.removing import remove
from latentman.backend.models.library.tokens import check_token
from latentman.backend.models.library.verifying import verify
from latentman.backend.models.library.yaml_subset import YamlError, read_sections
from latentman.shared.console import make_printable
from latentman.shared.folders import CONFIG_ENVIRONMENT, DATA_ENVIRONMENT, MODELS_ENVIRONMENT
from latentman.shared.shot import ShotError
from tests.checkout import ROOT
from tools.stand_in_hub import StandInHub

COMMIT = "0123456789" * 4
yaml = pytest.importorskip("yaml")


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name, folder in ((CONFIG_ENVIRONMENT, "config"), (DATA_ENVIRONMENT, "data"), (MODELS_ENVIRONMENT, "models")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr("latentman.backend.models.hub.FIRST_PAUSE", 0.001)


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file({f"{layer}.lora_down.weight": torch.zeros(4, 320), f"{layer}.lora_up.weight": torch.zeros(320, 4)}, path)
    return path


# ComfyUI's list of folders


def _read_as_comfyui(text, path, kinds):
    """The folders that ComfyUI reads of such a file, written after its own way with a whole parser of YAML."""
    found = []
    for section in (yaml.safe_load(text) or {}).values():
        section = dict(section or {})
        base = os.path.expandvars(os.path.expanduser(section.pop("base_path", None) or ""))
        base = base if os.path.isabs(base) else os.path.join(os.path.dirname(path), base)
        for kind, named in section.items():
            lines = [line for line in str(named).split("\n") if line] if named is not None and kind in kinds else []
            found += [os.path.normpath(os.path.join(base, os.path.expanduser(line))) for line in lines]
    return sorted(found)


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  base_path: {far}\n  loras: Lora\n",
        "%YAML 1.1\n---\na:\n  base_path: {far}\n  loras: Lora/\n...\n",
        "--- # begin\na:\n    base_path: {far}/\n    loras: |\n      Lora/\n      more\n",
        "'other ui':\n  \"base_path\": \"{far}\"\n  'loras': 'Lora' # c\n",
        "dateien_ü:\r\n  base_path: {far}\r\n  loras: |-\r\n    Lora\r\n    more\r\n",
        "a:\n  base_path: $FAR_AWAY\n  loras: Lora\n",
        "a:\n  base_path: ${{FAR_AWAY}}/\n  vae: more\n  is_default: true\n",
        "a:\n  base_path: ~\n  loras: {far}/Lora\n",
        "a:\n  base_path: ~/far\n  loras: it's\n",
        "a:\n  base_path: {far}\n  loras: 'it''s'\n  vae: null\n  checkpoints:\n  controlnet: ~\n",
        'a:\n  base_path: {far}\n  loras: "it\'s"\n',
        "a:\n  loras: ../far/Lora\nb:\n  base_path: {far}\n  loras: more\n",
        "a: # nothing\n#b:\n#  loras: x\n",
        "# all of it is a comment\n",
    ],
)
def test_comfyuis_list_is_read_as_comfyui_reads_it(tmp_path, monkeypatch, text):
    far, ui = tmp_path / "far", tmp_path / "ui"
    for name in ("Lora", "more", "it's"):
        (far / name).mkdir(parents=True)
    ui.mkdir()
    monkeypatch.setenv("FAR_AWAY", str(far))
    monkeypatch.setenv("HOME", str(tmp_path))
    path = ui / "extra_model_paths.yaml"
    path.write_bytes(text.format(far=far).encode())
    places, notices = list_places(ui, "comfyui")
    assert sorted(map(str, places)) == _read_as_comfyui(path.read_text(), path, ("loras", "vae", "checkpoints", "controlnet"))
    assert not notices


@pytest.mark.parametrize(
    "text", ['a:\n  b: "C:\\\\new\\\\x"\n', "a:\n  b: C:\\new\\x\n", "a:\n  b: '%x% y'\n", 'a:\n  b: "x \\" y"\n']
)
def test_texts_are_those_of_a_whole_parser(text):
    assert read_sections(text)["a"]["b"] == [yaml.safe_load(text)["a"]["b"]]


@pytest.mark.parametrize(
    "text", ['a:\n  b: "x\\ny"\n', 'a:\n  b: "x""y"\n', "a:\n  'b\": c\n", "--- a: b\n", "a:\n  - b\n", "a: [b]\n"]
)
def test_what_is_not_understood_is_said(text):
    with pytest.raises(YamlError, match="line"):
        read_sections(text)


def test_folders_of_the_list_that_are_not_there_are_said(tmp_path):
    for base in (tmp_path / "gone", "D:\\ComfyUI"):
        (tmp_path / "extra_model_paths.yaml").write_text(f"web ui:\n  base_path: {base}\n  loras: Lora\n  vae: VAE\n")
        places, (notice,) = list_places(tmp_path, "comfyui")
        assert not places and "'web ui'" in notice and str(base) in notice and notice.endswith("correct its base_path.")
    (tmp_path / "extra_model_paths.yaml").write_text(f"web ui:\n  base_path: {tmp_path}\n  loras: Lora\n  vae: .\n")
    assert list_places(tmp_path, "comfyui") == ([tmp_path], [])


# what cannot be looked at


def _run_as_nobody(call):
    """What a call returns, printed by a process of somebody who may not do everything."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(write, repr(call()).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        said = stream.read()
    os.waitpid(process, 0)
    return said


@pytest.fixture
def open_folder(monkeypatch):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    for name, inner in ((CONFIG_ENVIRONMENT, "config"), (DATA_ENVIRONMENT, "data"), (MODELS_ENVIRONMENT, "own")):
        monkeypatch.setenv(name, str(folder / inner))
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=False)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users of POSIX")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_folders_that_may_not_be_read_are_said(open_folder, lora, mode):
    root = open_folder / "root"
    for name in ("seen", "closed"):
        (root / name).mkdir(parents=True)
        shutil.copy(lora, root / name / f"{name}.safetensors")
        (root / name / f"{name}.safetensors").chmod(0o644)
    (root / "closed").chmod(mode)

    def list_both():
        add_folder(str(root))
        found = list_library()
        return [item.title for item in found.items if item.place == "folder"], found.notices

    said = _run_as_nobody(list_both)
    assert "['seen']" in said and f"{root / 'closed'} may not be read; change the permissions" in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users of POSIX")
@pytest.mark.parametrize("name", [MODELS_ENVIRONMENT, DATA_ENVIRONMENT])
def test_a_list_comes_though_the_own_folder_may_not_be_read(open_folder, monkeypatch, name):
    (open_folder / "locked").mkdir()
    (open_folder / "locked").chmod(0o000)
    monkeypatch.delenv(MODELS_ENVIRONMENT)
    monkeypatch.setenv(name, str(open_folder / "locked" / "x"))

    def list_names():
        found = list_library()
        return {item.name for item in found.items} >= {"starter", "sd15"}, found.notices

    said = _run_as_nobody(list_names)
    assert "True" in said and "may not be read" in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users of POSIX")
def test_a_file_that_may_be_read_again_is_looked_into_again(open_folder, lora):
    root = open_folder / "root"
    root.mkdir()
    path = root / "x.safetensors"
    shutil.copy(lora, path)
    (open_folder / "config").mkdir(mode=0o777)
    (open_folder / "config").chmod(0o777)
    state = path.stat()

    def list_one():
        add_folder(str(root))
        (item,) = [item for item in list_library().items if item.place == "folder"]
        return item.kind, item.problem

    path.chmod(0o000)
    assert "Permission denied); change its permissions" in _run_as_nobody(list_one)
    path.chmod(0o644)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert _run_as_nobody(list_one) == "('lora', '')"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users of POSIX")
@pytest.mark.parametrize("what", ["add", "token"])
def test_settings_that_cannot_be_written_say_so(open_folder, monkeypatch, what):
    (open_folder / "locked").mkdir()
    (open_folder / "locked").chmod(0o555 if os.geteuid() else 0o755)
    monkeypatch.setenv(CONFIG_ENVIRONMENT, str(open_folder / "locked" / "config"))

    def change():
        from latentman.backend.models.library.tokens import save_token

        return add_folder(str(open_folder)) if what == "add" else save_token("hf_x", "https://hub.example")

    said = _run_as_nobody(change)
    assert "(Permission denied); change its permissions, or name another folder in LATENTMAN_CONFIG." in said
    assert "make space" not in said


def test_links_to_nowhere_and_folders_too_deep_are_said(tmp_path, lora):
    root = tmp_path / "root"
    deep = root.joinpath(*"abcdefghijkl")
    deep.mkdir(parents=True)
    shutil.copy(lora, deep / "deep.safetensors")
    (root / "gone.safetensors").symlink_to("/mnt/nowhere/gone.safetensors")
    (root / "folder").symlink_to("/mnt/nowhere")
    (root / "read.me").symlink_to("/mnt/nowhere/read.me")
    add_folder(str(root))
    links, depth = list_library().notices
    assert links.startswith("Each of 2 links, such as ") and links.endswith("connect its disk, or delete it.")
    assert str(root.joinpath(*"abcdefghi")) in depth and "add it as a folder of its own" in depth


def test_a_folder_with_too_much_is_said(tmp_path, lora, monkeypatch):
    monkeypatch.setattr(scanning, "MAX_NAMES", 5)
    root = tmp_path / "root"
    root.mkdir()
    for n in range(9):
        shutil.copy(lora, root / f"{n}.safetensors")
    add_folder(str(root))
    found = list_library()
    assert len([item for item in found.items if item.place == "folder"]) == 5
    assert any("more than 5 names" in notice for notice in found.notices)


# names


@pytest.mark.parametrize("call", [add_folder, remove, lambda name: verify([name], lambda *_: None)])
@pytest.mark.parametrize("name", ["", "  ", "\t\n", "x\0y", os.fsdecode(b"/tmp/by\xff")])
def test_names_that_are_none(tmp_path, monkeypatch, lora, call, name):
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copy(lora, folder)
    add_folder(str(folder))
    monkeypatch.chdir(folder)
    with pytest.raises(ShotError) as raised:
        call(name)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
    assert read_folders() == [folder] and (folder / lora.name).exists()


def test_a_path_that_is_too_long(tmp_path):
    with pytest.raises(ShotError, match="no folder"):
        add_folder(str(tmp_path / ("x" * 5000)))


@pytest.mark.parametrize(("given", "kept"), [(' "hf_x" ', "hf_x"), ("'hf_x'\r\n", "hf_x"), ("\ufeffhf_x", "hf_x")])
def test_tokens_as_they_are_pasted(given, kept):
    assert check_token(given) == kept


def test_letters_that_would_move_the_cursor_are_numbers():
    assert make_printable("a\x1b[2J\r\x07\u202eb\x9b\u200fü 動画\n") == "a\\x1b[2J\\r\\x07\\u202eb\\x9b\\u200fü 動画\n"


# the command line


def _start(*arguments, **more):
    return subprocess.Popen(
        [sys.executable, ROOT / "backend" / "launch.py", "models", *arguments], stderr=subprocess.PIPE, text=True, **more
    )


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("arguments", [("list", "--quick"), ("list", "--quick", "--json"), ()])
def test_nobody_reads_on(arguments):
    read, write = os.pipe()
    os.close(read)
    process = _start(*arguments, stdout=write)
    os.close(write)
    assert (process.communicate()[1], process.returncode) == ("", 141)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_an_output_that_is_full():
    with open("/dev/full", "wb") as full:
        process = _start("list", "--quick", stdout=full, env={**os.environ, "PYTHONUNBUFFERED": ""})
    said = process.communicate()[1]
    assert "No space left on device" in said and said.endswith("make space there.\n") and process.returncode == 1


def test_an_output_without_such_letters(tmp_path, lora):
    folder = tmp_path / "動画"
    folder.mkdir()
    shutil.copy(lora, folder / "\x1b[31mrot ü.safetensors")
    add_folder(str(folder))
    process = _start(
        "list", "--quick", "--kind", "lora", "--here", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    said, wrong = process.communicate()
    assert (
        process.returncode == 0 and not wrong and "\\u52d5\\u753b" in said and "\\x1b[31mrot \\xfc" in said and "\x1b" not in said
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HF_ENDPOINT", "http://[bad", "cannot be asked"),
        ("HF_ENDPOINT", "hub.example", "cannot be asked"),
        ("HF_ENDPOINT", "http://user:s3#cret@hub.example", "cannot be asked"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "ten", "no number of seconds"),
    ],
)
def test_variables_of_the_hub_that_cannot_be_used(name, value, words):
    process = _start("list", "--quick", stdout=subprocess.PIPE, env={**os.environ, name: value})
    said, wrong = process.communicate()
    assert (
        process.returncode == 2 and not said and words in wrong and name in wrong and wrong.count("\n") == 1 and "cret" not in wrong
    )


def test_variables_that_are_set_to_nothing_are_none():
    variables = {"HF_HUB_CACHE": "", "HF_HOME": " ", "HF_ENDPOINT": "", "HF_TOKEN": "x", "PATH": ""}
    hub_variables.drop_empty(variables)
    assert variables == {"HF_TOKEN": "x", "PATH": ""} and hub_variables.find_problem(variables) == ""
    assert not hub_variables.find_problem({"HF_ENDPOINT": "https://user:pass@hub.example:8443/x/"})


# the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights.safetensors").write_bytes(bytes(range(256)) * 2000)
    found = StandInHub()
    found.repositories["me/lora"] = (COMMIT, source)
    monkeypatch.setenv("HF_ENDPOINT", found.address)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield found
    found.close()


def _fail(reason, words):
    with pytest.raises(HubError, match=words) as raised:
        get("me/lora", lambda *_: None)
    assert raised.value.reason == reason and "s3cret" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (400, "network", "refuses what is asked"),
        (404, "missing", "has no 'me/lora'"),
        (407, "network", "the proxy asks for a user and a password"),
        (410, "missing", "has taken 'me/lora' down"),
        (429, "network", "has been asked too often; wait"),
        (451, "missing", "has taken 'me/lora' down"),
        (502, "network", r"answers with an error \(502\)"),
    ],
)
def test_answers_of_the_hub(hub, status, reason, words):
    hub.status = status
    _fail(reason, words)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", "socks5://bob:s3cret@127.0.0.1:9", "only proxies whose addresses begin with http://"),
        ("HTTP_PROXY", "http://bob:s3#s3cret@127.0.0.1:9", "the proxy's address http://127.0.0.1:9 cannot be understood"),
        ("HTTP_PROXY", "foo://bob:s3cret@127.0.0.1:9", "the proxy's address foo://127.0.0.1:9 cannot be understood"),
        ("HTTP_PROXY", "http://bob:s3cret@127.0.0.1:9", "cannot be reached"),
        ("SSL_CERT_FILE", "/nowhere.pem", r"the certificates /nowhere.pem of SSL_CERT_FILE cannot be read \(No such file"),
        ("SSL_CERT_FILE", __file__, "it holds no certificate"),
        ("HF_ENDPOINT", "http://bob:s3cret@127.0.0.1:9", "the hub at http://127.0.0.1:9 cannot be reached"),
        ("HF_ENDPOINT", "ftp://bob:s3cret@127.0.0.1:9", "the hub's address ftp://127.0.0.1:9"),
    ],
)
def test_ways_to_the_hub_that_do_not_work(hub, monkeypatch, name, value, words):
    from huggingface_hub import close_session

    if "PROXY" in name:
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    monkeypatch.setenv(name, value)
    close_session()
    try:
        _fail("network", words)
    finally:
        close_session()


def test_files_come_as_they_are(hub):
    assert get("me/lora", lambda *_: None).path.exists()
    asked = [headers for headers in hub.encodings if headers]
    assert asked and "identity" in asked


def test_a_download_that_never_gets_further_ends(hub):
    """A hub that sends all of it again, and stops somewhere else each time."""
    hub.ranges = False
    send, cuts = hub._send_slowly, itertools.cycle((40_000, 20_000, 30_000, 10_000))

    def send_a_piece(request, data, *, large):
        hub.cut_after = next(cuts)
        send(request, data, large=large)

    hub._send_slowly = send_a_piece
    _fail("network", "cannot be reached")
    assert sum(method == "GET" and "/resolve/" in path for method, path, _ in hub.requests) < 15


def test_the_proxy_is_found_in_what_the_library_raises():
    assert hub_connection.explain_connection(ImportError("other"), None, "https://hub.example") is None
    assert hub_connection.explain_connection(None, 404, "https://hub.example") is None
