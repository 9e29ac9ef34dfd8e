"""The leaderboard: what fits is ranked by pairs, what does not is a sentence, and no text of others means anything."""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.metrics.clip_measurer import PARTS  # noqa: E402
from latentman.backend.metrics.leaderboard import list_ranking_figures, rank  # noqa: E402
from latentman.backend.metrics.packed_shots import NamedPasses, pack_shots  # noqa: E402
from latentman.backend.metrics.submissions import AGAINST_REFERENCE, Entry, Metadata, fold_name  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import samples  # noqa: E402

FRAMES, SIDE, SEEDS, PROMPTS = 3, 48, (1, 2), ("a man", "a woman")
METADATA = {
    "name": "steady",
    "authors": ["A. Person"],
    "licence": "CC-BY-4.0",
    "date": "2026-05-17",
    "model": "starter",
    "seconds_per_frame": 1.5,
    "device": "two cores",
    "link": "https://example.org/steady?a=1&b=2",
}


def _paint(passes, seed, noise):
    """A texture that moves with the surface, under noise of some levels."""
    random = np.random.default_rng(seed)
    texture = random.integers(40, 200, (64, 64, 3))
    places = np.clip((passes.uv * 63).astype(int), 0, 63)
    pictures = texture[places[..., 1], places[..., 0]] * (passes.mask[..., None] > 0) + 30.0
    return np.clip(pictures + random.normal(0, noise, pictures.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """A benchmark, and two submissions with their frames, made by the command."""
    root = tmp_path_factory.mktemp("arena")
    passes = samples.passes(FRAMES, SIDE, 3)
    manifest = PassesManifest(SIDE, SIDE, 20.0, tuple(range(1, FRAMES + 1)), 2.0, 4.0)
    data, _ = pack_shots([NamedPasses("walk", passes, manifest)], PROMPTS, SEEDS, "CC0-1.0", "")
    (root / "benchmark.zip").write_bytes(data)
    for name, noise in (("steady", 2.0), ("shaky", 12.0)):
        for number in range(1, len(PROMPTS) + 1):
            for seed in SEEDS:
                clip = root / name / "walk" / f"{number}-{seed}"
                clip.mkdir(parents=True)
                for n, picture in enumerate(_paint(passes, 10 * number + seed, noise), 1):
                    Image.fromarray(picture).save(clip / f"{n:04d}.png")
        (root / f"{name}.json").write_text(json.dumps(METADATA | {"name": name}))
        usual = ["--shots", str(root / "benchmark.zip"), "--metadata", str(root / f"{name}.json")]
        assert main(["submission", str(root / name), *usual, "--with-frames", "--out", str(root / f"{name}.zip")]) == 0
    # without its frames, for tests of what stands beside it
    with zipfile.ZipFile(root / "shaky.zip") as archive, zipfile.ZipFile(root / "light.zip", "w") as light:
        for entry in archive.namelist():
            if not entry.startswith("frames/"):
                light.writestr(f"wrapped/{entry}", archive.read(entry))
    return root


@pytest.fixture
def unpacked(arena, tmp_path):
    """The steady submission as a folder of its own, without its frames."""
    with zipfile.ZipFile(arena / "steady.zip") as archive:
        archive.extractall(tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine" / "frames")
    return tmp_path / "mine"


def _rank(arena, tmp_path, *paths, options=(), kinds=("md", "csv", "html")):
    outs = [option for kind in kinds for option in ("--out", str(tmp_path / f"board.{kind}"))]
    return main(["leaderboard", *map(str, paths), "--shots", str(arena / "benchmark.zip"), *outs, *options])


def _edit(folder, change, clip="walk/1-1"):
    path = folder / "results" / f"{clip}.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def _rename(folder, **changes):
    (folder / "submission.json").write_text(json.dumps(METADATA | changes))


def test_submissions_are_measured_again_and_ranked(arena, tmp_path, capsys):
    capsys.readouterr()
    assert _rank(arena, tmp_path, arena / "shaky.zip", arena / "steady.zip") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split()[:2] == ["1", "steady"] and said.err == ""
    rows = list(csv.DictReader((tmp_path / "board.csv").read_text().splitlines()))
    assert [(row["name"], row["rank"], row["verified"]) for row in rows] == [("steady", "1", "True"), ("shaky", "2", "True")]
    assert rows[0]["baseline"] == "shaky", "the first, where there is no cross_frame"
    assert (
        0 < float(rows[0]["hmse"]) < float(rows[0]["hmse_high"]) < 1 and rows[0]["hmse_pairs"] == "4" and rows[1]["hmse"] == "1.0"
    )
    page = (tmp_path / "board.md").read_text()
    assert "measured again" in page and "4 clips of each entry" in page and "a trial, not a finding" in page
    # against the steady one the other's losses are named
    assert _rank(arena, tmp_path, arena / "shaky.zip", arena / "steady.zip", options=("--baseline", "STEADY")) == 0
    rows = list(csv.DictReader((tmp_path / "board.csv").read_text().splitlines()))
    assert "hmse_relative" in rows[1]["worse"].split("; ") and rows[0]["worse"] == ""
    capsys.readouterr()
    for options, said in ((("--baseline", "x"), "no entry 'x'"), (("--figure", "detail"), "cannot be ranked by 'detail'")):
        assert _rank(arena, tmp_path, arena / "steady.zip", options=options) == 2 and said in capsys.readouterr().err
    assert _rank(arena, tmp_path, arena / "steady.zip", kinds=("exe",)) == 2 and "none of .md" in capsys.readouterr().err
    assert not set(AGAINST_REFERENCE) & set(list_ranking_figures()) and set(AGAINST_REFERENCE) < set(PARTS["contrast"][1])


def _change_figure(name, value):
    return lambda result: result["figures"].update({name: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(passes_fingerprint="0" * 24), "other passes than the benchmark's 'walk'"),
        (lambda r: r.update(code="0" * 64), "another version of the figures"),
        (lambda r: r.pop("code"), "required field `code`"),
        (lambda r: r["figures"].pop("drift"), "has no 'drift'"),
        (_change_figure("hmse", float("nan")), "cannot be read"),
        (_change_figure("hmse", float("inf")), "cannot be read"),
        (_change_figure("hmse", "1"), "cannot be read"),
        (_change_figure("hmse", -3), "which no clip can have"),
        (_change_figure("hmse", 70000), "which no clip can have"),
        (_change_figure("hmse", 60000), "a larger 'hmse' than 'hmse_worst'"),
        (_change_figure("silhouette_iou", 1.2), "which no clip can have"),
        (_change_figure("timing_error", 1e308), None),
        (lambda r: r.update(frames_fingerprint="same"), None),
    ],
)
def test_results_that_do_not_fit_are_left_out(arena, unpacked, tmp_path, capsys, change, said):
    _edit(unpacked, change)
    capsys.readouterr()
    code = _rank(arena, tmp_path, unpacked, kinds=("csv",))
    told = capsys.readouterr().err
    if said is None:
        assert code == 0
    else:
        assert code == 2 and said in told and "is left out: " in told and "None of the submissions" in told
        assert not (tmp_path / "board.csv").exists()


def test_what_is_missing_twice_or_not_its_own_is_left_out(arena, unpacked, tmp_path, capsys):
    def refuse(said, *paths):
        capsys.readouterr()
        code = _rank(arena, tmp_path, arena / "light.zip", *paths, kinds=("md",))
        told = capsys.readouterr().err
        assert code == 2 and said in told, told
        page = (tmp_path / "board.md").read_text()
        assert page.count("\n- ") == len(paths) and "shaky" in page

    results = unpacked / "results" / "walk"
    # a seed, and one clip for two seeds
    kept = (results / "2-2.json").read_bytes()
    (results / "2-2.json").unlink()
    refuse("there is no results/walk/2-2.json", unpacked)
    (results / "2-2.json").write_bytes((results / "2-1.json").read_bytes())
    refuse("has the same frames as walk/2-1", unpacked)
    (results / "2-2.json").write_bytes(kept)
    # names and frames of others
    _rename(unpacked, name="ＳＨＡＫＹ")
    refuse("another submission called 'shaky'", unpacked)
    assert fold_name("A  b") == fold_name("a B")
    _rename(unpacked, name="thief")
    copy = shutil.copytree(unpacked, tmp_path / "copy")
    _rename(copy, name="second thief")
    capsys.readouterr()
    assert _rank(arena, tmp_path, unpacked, copy) == 2 and "has frames that 'thief' has, too" in capsys.readouterr().err
    # frames that are others than those that were measured, and figures that they do not have
    with zipfile.ZipFile(arena / "steady.zip") as archive:
        archive.extractall(tmp_path / "whole")
    whole = tmp_path / "whole"
    _edit(whole, lambda result: result["figures"].update(hmse=result["figures"]["hmse"] * 0.9))
    refuse("for 'hmse', and its frames have", whole)
    Image.new("RGB", (SIDE, SIDE)).save(whole / "frames" / "walk" / "1-1" / "0002.png")
    refuse("are not those that were measured", whole)
    (whole / "frames" / "walk" / "1-1" / "0002.png").write_bytes(b"GIF89a")
    refuse("frames/walk/1-1/ cannot be measured", whole)
    (whole / "frames" / "walk" / "1-1" / "0002.png").unlink()
    (whole / "frames" / "walk" / "1-1" / "0002.png").symlink_to("/etc/passwd")
    refuse("is a link", whole)
    refuse("there is no submission.json", arena / "benchmark.zip")
    refuse("cannot be read", tmp_path / "nowhere.zip", arena / "steady.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "its name must be"),
        ({"name": "a\nb"}, "its name must be"),
        ({"name": "a\u202eb"}, "its name must be"),
        ({"name": "x" * 81}, "its name must be"),
        ({"authors": []}, "authors"),
        ({"authors": "me"}, "cannot be read"),
        ({"link": "javascript:alert(1)"}, "its link must be"),
        ({"link": "https://a.org/<script>"}, "its link must be"),
        ({"link": "https://a.org/x) [y](https://b.org"}, "its link must be"),
        ({"link": 'https://a.org/"onload="x'}, "its link must be"),
        ({"date": "2026-13-01"}, "its date must be"),
        ({"date": "yesterday"}, "its date must be"),
        ({"seconds_per_frame": 0}, "seconds_per_frame"),
        ({"seconds_per_frame": "1"}, "cannot be read"),
        ({"rank": 1}, "unknown field"),
    ],
)
def test_metadata_that_nobody_could_show_is_left_out(arena, unpacked, tmp_path, capsys, changes, said):
    _rename(unpacked, **changes)
    capsys.readouterr()
    assert _rank(arena, tmp_path, unpacked, kinds=("csv",)) == 2 and said in capsys.readouterr().err


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, tuple(name for name, _ in attrs)))


def test_texts_of_others_mean_nothing(arena, unpacked, tmp_path):
    evil = '<img src=x onerror="a()">|[x](http://e.org)'
    _rename(
        unpacked, name=evil, authors=["=HYPERLINK(1)"], licence="`code` **b** ~~c~~", model="@cmd | a", device="&lt;b&gt; \\| c"
    )
    assert _rank(arena, tmp_path, arena / "light.zip", unpacked) == 0
    tags = _Tags()
    tags.feed((tmp_path / "board.html").read_text())
    assert {tag for tag, _ in tags.seen} <= set(["meta", "title", "style", "h1", "p", "table", "tr", "th", "td", "a", "html"])
    assert {names for tag, names in tags.seen if tag == "a"} == {("rel", "href")}
    lines = [line for line in (tmp_path / "board.md").read_text().splitlines() if line.startswith("|")]
    # as many cells in each line, and no sign of theirs that is not marked
    assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}) == 1
    (line,) = [line for line in lines if "img" in line]
    assert "\\<img" in line and "\\[x\\]\\(http" in line and "\\`code\\`" in line and "\\\\\\| c" in line
    markdown = pytest.importorskip("markdown")
    shown = markdown.markdown((tmp_path / "board.md").read_text(), extensions=["tables"])
    assert "<img" not in shown and "<strong>" not in shown and 'href="http://e.org"' not in shown
    cells = next(row for row in csv.DictReader((tmp_path / "board.csv").read_text().splitlines()) if "img" in row["name"])
    assert cells["authors"] == "'=HYPERLINK(1)" and cells["model"].startswith("'@")


def _make_entry(name, factors, figure="hmse"):
    runs = tuple(
        {
            "shot": "walk",
            "prompt": "a man",
            "seed": seed,
            "variant": name,
            "hmse": 10.0 * seed * factor,
            "silhouette_iou": 0.9 / factor,
        }
        for seed, factor in enumerate(factors, 1)
    )
    return Entry(Metadata(name, ("me",), "CC0", "2026-01-01", "m", 1.0, "cpu"), runs, {}, False)


def test_ranks_say_only_what_is_beyond_chance():
    base = _make_entry("base", (1, 1, 1, 1, 1))
    good = _make_entry("good", (0.5, 0.52, 0.48, 0.51, 0.5))
    alike = _make_entry("alike", (0.52, 0.49, 0.5, 0.5, 0.51))
    unsure = _make_entry("unsure", (0.2, 3.0, 0.4, 2.0, 0.7))
    board = rank([unsure, base, alike, good], baseline="base")
    found = {one.entry.metadata.name: one for one in board.standings}
    assert found["good"].rank == found["alike"].rank == 1 and found["base"].rank == 3
    assert set(found["good"].tied) == {"alike", "unsure"} and set(found["base"].tied) == {"unsure"}
    # nothing is better than it beyond chance
    assert found["unsure"].rank == 1 and str(found["unsure"].ratios["hmse"]).endswith("n = 5")
    assert [one.entry.metadata.name for one in board.standings][-1] == "base"
    # a figure of which more is better turns it round
    other = rank([base, good, alike], "silhouette_iou", "base")
    assert [one.rank for one in other.standings] == [1, 1, 3] and other.standings[0].ratios["silhouette_iou"].mean > 1
    worse = rank([base, good], "hmse", "good").standings[1]
    assert worse.losses == ("silhouette_iou",)
    # one pair says nothing
    one = rank([_make_entry("a", (1,)), _make_entry("b", (0.1,))])
    assert [each.rank for each in one.standings] == [1, 1]
    with pytest.raises(ShotError, match="has no 'drift'"):
        rank([base], "drift")


def test_an_evaluations_runs_are_submitted_by_their_variant(arena, tmp_path, capsys):
    for clip in (arena / "steady" / "walk").iterdir():
        shutil.copytree(clip, tmp_path / "out" / "walk" / clip.name / "surface-0123456789ab")
        (tmp_path / "out" / "walk" / clip.name / "surface_fast-0123456789ab").mkdir()
    usual = ["--shots", str(arena / "benchmark.zip"), "--metadata", str(arena / "steady.json"), "--out", str(tmp_path / "mine.zip")]
    assert main(["submission", str(tmp_path / "out"), "--variant", "surface", *usual]) == 0
    with zipfile.ZipFile(tmp_path / "mine.zip") as made, zipfile.ZipFile(arena / "steady.zip") as there:
        assert not [name for name in made.namelist() if name.startswith("frames")]
        one, other = (json.loads(archive.read("results/walk/1-1.json")) for archive in (made, there))
    assert one["figures"] == other["figures"] and str(tmp_path) not in json.dumps(one)
    capsys.readouterr()
    for arguments, said in (
        ([str(tmp_path / "out")], "holds no pictures"),
        ([str(tmp_path / "nowhere")], "There is no"),
        ([str(tmp_path / "out"), "--variant", "bake"], "0 runs of 'bake'"),
    ):
        assert main(["submission", *arguments, *usual]) == 2 and said in capsys.readouterr().err
    (tmp_path / "meta.json").write_text(json.dumps(METADATA | {"date": "now"}))
    usual[3] = str(tmp_path / "meta.json")
    assert main(["submission", str(tmp_path / "out"), *usual]) == 2 and "its date must be" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["кадр {}.png", "my frame (v2) {:03d}.png", "-{}.png", "con.{}.png", "{}.PNG"])
def test_frames_of_any_name_are_packed_so_that_they_can_be_read(arena, tmp_path, name):
    shutil.copytree(arena / "steady" / "walk", tmp_path / "clips" / "walk")
    for clip in (tmp_path / "clips" / "walk").iterdir():
        for picture in sorted(clip.iterdir()):
            picture.rename(clip / name.format(int(picture.stem)))
        (clip / "._0001.png").write_bytes(b"what a system leaves")
    usual = ["--shots", str(arena / "benchmark.zip"), "--metadata", str(arena / "steady.json"), "--out", str(tmp_path / "mine.zip")]
    assert main(["submission", str(tmp_path / "clips"), *usual, "--with-frames"]) == 0
    assert _rank(arena, tmp_path, tmp_path / "mine.zip", kinds=("md",)) == 0
    assert "measured again" in (tmp_path / "board.md").read_text()


def test_clips_may_be_animations(arena, tmp_path, capsys):
    for clip in sorted((arena / "steady" / "walk").iterdir()):
        first, *others = [Image.open(path) for path in sorted(clip.iterdir())]
        (tmp_path / "clips" / "walk").mkdir(parents=True, exist_ok=True)
        first.save(tmp_path / "clips" / "walk" / f"{clip.name}.png", save_all=True, append_images=others)
    usual = ["--shots", str(arena / "benchmark.zip"), "--metadata", str(arena / "steady.json"), "--out", str(tmp_path / "mine.zip")]
    assert main(["submission", str(tmp_path / "clips"), *usual]) == 0
    with zipfile.ZipFile(tmp_path / "mine.zip") as mine, zipfile.ZipFile(arena / "steady.zip") as steady:
        found = [json.loads(archive.read("results/walk/1-1.json")) for archive in (mine, steady)]
    assert found[0]["figures"] == found[1]["figures"] and found[0]["frames_fingerprint"] == found[1]["frames_fingerprint"]
    assert main(["submission", str(tmp_path / "clips"), *usual, "--with-frames"]) == 2
    shutil.copytree(arena / "steady" / "walk" / "1-1", tmp_path / "clips" / "walk" / "1-1")
    assert main(["submission", str(tmp_path / "clips"), *usual]) == 2
    said = capsys.readouterr().err
    assert "is no folder of pictures" in said and "There are 1-1 and 1-1.png in" in said


@pytest.mark.parametrize("value", [None, 0.0])
@pytest.mark.parametrize("clips", [("1-1",), ("1-1", "1-2", "2-1", "2-2")])
def test_who_lacks_a_figure_where_others_have_it_is_left_out_alone(arena, tmp_path, unpacked, capsys, value, clips):
    for clip in clips:
        _edit(unpacked, lambda result: result["figures"].update(hmse=value), f"walk/{clip}")
    assert _rank(arena, tmp_path, arena / "shaky.zip", unpacked, kinds=("md",)) == 2
    said = capsys.readouterr()
    assert f"'steady' is left out: it has no 'hmse' above 0 for {len(clips)} of its 4 clips" in said.err and "shaky" in said.out
    assert "is left out" in (tmp_path / "board.md").read_text()
    # another figure is there
    assert _rank(arena, tmp_path, arena / "shaky.zip", unpacked, options=("--figure", "background_error"), kinds=("md",)) == 0


def test_nobody_is_left_out_for_what_frames_have_shown_to_be_missing(arena, tmp_path, unpacked):
    _edit(unpacked, lambda result: result["figures"].update(reappearance=1.0))
    assert _rank(arena, tmp_path, arena / "shaky.zip", unpacked, options=("--figure", "reappearance"), kinds=("md",)) == 2
    assert not (tmp_path / "board.md").exists()


def test_a_submission_writes_over_nothing_that_it_reads(arena, tmp_path, capsys):
    shutil.copy(arena / "steady.json", tmp_path / "me.json")
    shutil.copy(arena / "benchmark.zip", tmp_path / "bench.zip")
    shutil.copytree(arena / "steady", tmp_path / "clips")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in ("me.json", "bench.zip", "clips/walk/1-1/0001.png"):
        usual = ["--shots", str(tmp_path / "bench.zip"), "--metadata", str(tmp_path / "me.json"), "--out", str(tmp_path / out)]
        assert main(["submission", str(tmp_path / "clips"), *usual]) == 2
        assert "would be lost; name another file" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_metadata_of_any_editor_is_read(arena, tmp_path):
    (tmp_path / "me.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(METADATA).encode())
    usual = ["--shots", str(arena / "benchmark.zip"), "--metadata", str(tmp_path / "me.json"), "--out", str(tmp_path / "mine.zip")]
    assert main(["submission", str(arena / "steady"), *usual]) == 0
