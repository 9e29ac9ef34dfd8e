"""Prompts: their syntax, and embeddings against a plain implementation of the weighting and against diffusers' own."""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run  # noqa: E402
from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.prompts.encoding import Encoder, split_into_pieces  # noqa: E402
from latentman.backend.models.prompts.named_loras import find_named_lora, name_model  # noqa: E402
from latentman.backend.models.prompts.parsing import MAX_WEIGHT, NamedLora, parse_prompt, split_loras  # noqa: E402
from latentman.backend.models.registry import fingerprint  # noqa: E402
from latentman.backend.tasks.shot import check_shot  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.shared.shot import ShotError, Text  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402
from tests.backend.test_single_files import Truth  # noqa: E402

FAMILIES = ("sd1", "sd2", "sdxl")
CPU = torch.device("cpu")
LIMIT = 75


# syntax


def _read(text):
    """[(text, weight rounded)] of each section."""
    return [[(part.text, round(part.weight, 6)) for part in section] for section in parse_prompt(text).sections]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a man, red shirt", [[("a man, red shirt", 1)]]),
        ("", [[]]),
        ("a (red) shirt", [[("a ", 1), ("red", 1.1), (" shirt", 1)]]),
        ("((red))", [[("red", 1.21)]]),
        ("(red:1.3)", [[("red", 1.3)]]),
        ("(red: .5 ) hat", [[("red", 0.5), (" hat", 1)]]),
        ("(red:-1)", [[("red", -1)]]),
        ("(red:+2.)", [[("red", 2)]]),
        ("[red]", [[("red", 0.909091)]]),
        ("[[red]]", [[("red", 0.826446)]]),
        ("[(red)]", [[("red", 1)]]),
        ("(a (b:1.5) c:2)", [[("a ", 2), ("b", 3), (" c", 2)]]),
        ("(a [b] (c))", [[("a ", 1.1), ("b", 1), (" ", 1.1), ("c", 1.21)]]),
        (r"by hand \(oil\) \[x\] \\", [[("by hand (oil) [x] \\", 1)]]),
        (r"(smile \:\) :1.2)", [[("smile :) ", 1.2)]]),
        ("(red", [[("red", 1.1)]]),
        ("a ((red) hat", [[("a ", 1), ("red", 1.21), (" hat", 1.1)]]),
        ("[red", [[("red", 0.909091)]]),
        ("red) hat", [[("red) hat", 1)]]),
        ("red:1.3) hat]", [[("red:1.3) hat]", 1)]]),
        ("(a)(b)", [[("ab", 1.1)]]),
        ("(Fate: Zero)", [[("Fate: Zero", 1.1)]]),
        ("(a:b:1.2)", [[("a:b", 1.2)]]),
        ("a BREAK b", [[("a", 1)], [("b", 1)]]),
        ("a,\nBREAK\nb BREAK", [[("a,", 1)], [("b", 1)], []]),
        ("BREAK BREAK a", [[], [], [("a", 1)]]),
        ("(a BREAK b:1.2) c", [[("a", 1.2)], [("b", 1.2), (" c", 1)]]),
        ("BREAKFAST unBREAK", [[("BREAKFAST unBREAK", 1)]]),
        ("time 12:30, 16:9", [[("time 12:30, 16:9", 1)]]),
    ],
)
def test_syntax(text, wanted):
    assert _read(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a man:a woman:0.5]", "changes the prompt between steps"),
        ("on a [beach:10]", "changes the prompt between steps"),
        ("[beach::.3]", "changes the prompt between steps"),
        ("(a [b (c:1.2): 0.4 ])", "changes the prompt between steps"),
        ("[cat|dog]", "changes the prompt between steps"),
        ("[ (a:1.1)|[b] ]", "changes the prompt between steps"),
        ("a cat AND a dog", "AND between prompts cannot be used"),
        ("(red:1,3)", "with a point"),
        ("(red:1e3)", "with a point"),
        ("(red:130%)", "with a point"),
        ("(red:nan)", "is no number"),
        ("(red:-inf)", "is no number"),
        ("(red:1.2.3)", "is no number"),
        ("(red:..)", "is no number"),
        ("(red:1000000)", "is not within -10 to 10"),
        (f"(red:{'9' * 500})", "is not within -10 to 10"),
        ("((red:9):9)", "counts more than 10 times"),
        (f"{'(' * 40}red{')' * 40}", "counts more than 10 times"),
        ("(" * 200, "More than 100 brackets"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(text, words):
    with pytest.raises(ShotError, match=words) as caught:
        parse_prompt(text)
    assert caught.value.code == "prompt" and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(red", "is not closed"),
        ("[red", "is not closed"),
        ("red)", "belongs to no other bracket"),
        ("(ratio 16:9)", "count 9 times"),
        ("(red:-1)", "count -1 times"),
        ("red:1.3, blue", "no weight without round brackets"),
        ("{red} shirt", "Curly brackets"),
        ("a cat\nNegative prompt: ugly\nSteps: 20", "put what follows it into the negative prompt"),
        ("a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7", "put these settings into their own"),
        ("a cat, embedding:EasyNegative", "write the textual inversion's word alone"),
        ("(a red shirt)1.3, blue", "gives no weight"),
        ("(a red shirt)++, blue", "gives no weight"),
        ("a red++ shirt", "gives no weight"),
        ("a cat --ar 16:9", "is no option here"),
        ("a __colour__ shirt", "wildcards are not replaced"),
        ("<lyra:a:1>", "nothing known"),
    ],
)
def test_what_may_be_meant_differently_is_said(text, words):
    (warning,) = parse_prompt(text).warnings
    assert words in warning and warning.endswith(".")


def test_usual_prompts_give_no_warnings():
    for text in (
        "masterpiece, (best quality:1.2), [blurry], 1man, 8k",
        r"hero \(game\), smile :)"[:-4],
        "a man: red, 16:9, at 12:30",
    ):
        assert not parse_prompt(text).warnings


def test_loras_in_prompts():
    assert split_loras("a <lora:a b/c.d:-1.5>man<LyCo:x> <lora:y:0.5:0.5>") == (
        "a man ",
        (NamedLora("a b/c.d", -1.5), NamedLora("x", 1.0), NamedLora("y", 0.5)),
    )
    assert split_loras("a <cat> b <3") == ("a <cat> b <3", ())
    for text, words in (
        ("<lora:x:abc>", "is no number"),
        ("<lora:x:nan>", "is no number"),
        ("<lora:x:100>", "is no number of -20 to 20"),
        ("<lora::1>", "names no LoRA"),
        ("<lora:>", "names no LoRA"),
        ("<lora:x:1:0.5>", "different strengths"),
        ("<lora:x:1:lbw=OUTALL>", "asks for 'lbw'"),
        ("<hypernet:x:1>", "hypernetwork"),
    ):
        with pytest.raises(ShotError, match=words):
            split_loras(text)


# embeddings


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("prompts"), {}
    for family in FAMILIES:
        truth = Truth(family, folder)
        torch.manual_seed(4)
        for encoder in truth.encoders:
            norm = getattr(encoder, "text_model", encoder).final_layer_norm
            # a fresh norm has the mean 0, and a trained one has not
            norm.bias.data = torch.randn_like(norm.bias) * 0.3 + 0.2
        found[family] = load(truth.write_folder(folder / family), CPU)
    return found


@pytest.fixture(params=FAMILIES)
def model(request, models):
    return models[request.param]


def _encoders(model):
    pipeline = model.pipeline
    pairs = [(pipeline.text_encoder, pipeline.tokenizer)]
    return pairs + ([(pipeline.text_encoder_2, pipeline.tokenizer_2)] if "text_encoder_2" in pipeline.components else [])


@torch.no_grad()
def _encode_plainly(model, pieces, skip=0):
    """The weighting, straight from its definition: ``pieces`` are [(words, weight)] of what is read at once, whose tokens
    are encoded with their marks and padding, multiplied by the weights, and the mean is restored."""
    columns = []
    for network, tokenizer in _encoders(model):
        rows = []
        for piece in pieces:
            ids, weights = [tokenizer.bos_token_id], [1.0]
            for words, weight in piece:
                own = tokenizer(words, add_special_tokens=False).input_ids
                ids += own
                weights += [weight] * len(own)
            ids.append(tokenizer.eos_token_id)
            weights.append(1.0)
            ids += [tokenizer.pad_token_id] * (77 - len(ids))
            weights += [1.0] * (77 - len(weights))
            said = network(torch.tensor([ids]), output_hidden_states=True)
            if len(_encoders(model)) == 2:
                states = said.hidden_states[-(skip or 2)]
            elif skip > 1:
                states = network.final_layer_norm(said.hidden_states[-skip])
            else:
                states = said.last_hidden_state
            weighted = states * torch.tensor(weights).view(1, 77, 1)
            rows.append(weighted * (states.mean() / weighted.mean()))
        columns.append(torch.cat(rows, 1))
    return torch.cat(columns, 2)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a man, (red shirt:1.4), [beach]", [[("a man,", 1), ("red shirt", 1.4), (",", 1), ("beach", 1 / 1.1)]]),
        ("((a man)) in (blue:0.3)", [[("a man", 1.1 * 1.1), ("in", 1), ("blue", 0.3)]]),
        ("(a man:0) on a beach", [[("a man", 0), ("on a beach", 1)]]),
        ("(a man:2) BREAK a [beach]", [[("a man", 2)], [("a", 1), ("beach", 1 / 1.1)]]),
        ("BREAK (a man)", [[], [("a man", 1.1)]]),
    ],
)
@pytest.mark.parametrize("skip", [0, 2, 3])
def test_weights_are_those_of_the_definition(model, text, pieces, skip):
    found = model.encode_text(text, "", False, 64, 64, clip_skip=skip)
    torch.testing.assert_close(found.embeddings, _encode_plainly(model, pieces, skip), rtol=1e-4, atol=1e-5)
    plain = model.encode_text(re.sub(r"[()\[\]]|:[\d.]+", "", text), "", False, 64, 64, clip_skip=skip)
    assert (found.embeddings - plain.embeddings).abs().max() > 1e-3
    if plain.added:
        # the pooled text has no weights, as in diffusers
        assert torch.equal(found.added["text_embeds"], plain.added["text_embeds"])


def test_a_long_weighted_text_is_read_in_pieces(model):
    words = [f"word{n}" for n in range(40)]
    text = f"{' '.join(words)} (red) {' '.join(words)}"
    tokenizer = model.pipeline.tokenizer
    own = tokenizer(" ".join(words), add_special_tokens=False).input_ids
    red = tokenizer("red", add_special_tokens=False).input_ids
    tokens = [(token, 1.0) for token in own] + [(token, 1.1) for token in red] + [(token, 1.0) for token in own]
    found = split_into_pieces(Encoder(model.pipeline, model.pipeline.text_encoder, tokenizer), parse_prompt(text))
    inner = [pair for piece in found for pair in list(zip(piece.ids, piece.weights, strict=True))[1:76]]
    assert inner[: len(tokens)] == tokens and len(found) == -(-len(tokens) // LIMIT) > 1
    said = model.encode_text(text, "blurry", True, 64, 64)
    assert said.embeddings.shape[1] == 77 * len(found) and f"read in {len(found)} pieces" in said.warnings[0]


@pytest.mark.parametrize("prompt", ["", "a man in a red shirt", "word, " * 37])
@torch.no_grad()
def test_texts_without_syntax_are_diffusers_own(model, prompt):
    found = model.encode_text(prompt, "blurry", True, 64, 64)
    given = dict(prompt=prompt, negative_prompt="blurry", device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=True)
    wanted = model.pipeline.encode_prompt(**given)
    assert torch.equal(found.embeddings, torch.cat([wanted[1], wanted[0]])) and not found.warnings
    if len(wanted) == 4:
        assert torch.equal(found.added["text_embeds"], torch.cat([wanted[3], wanted[2]]))


@pytest.mark.parametrize("longest", ["prompt", "negative", "background"])
@torch.no_grad()
def test_the_longest_text_decides_the_number_of_pieces(model, longest):
    long = ", ".join(f"word{n}" for n in range(60))
    texts = dict.fromkeys(("negative", "prompt", "background"), "a man") | {longest: long}
    found = model.encode_text(texts["prompt"], texts["negative"], True, 64, 64, texts["background"])
    count = found.embeddings.shape[1] // 77
    assert count > 2 and len(found.embeddings) == 3 and "pieces" in found.warnings[0]
    for row, text in enumerate(texts.values()):
        alone = model.encode_text(text, "", False, 64, 64)
        if text == long:
            assert torch.equal(found.embeddings[row], alone.embeddings[0])
        else:
            torch.testing.assert_close(found.embeddings[row, :77], alone.embeddings[0], rtol=1e-5, atol=1e-5)
            empty = model.encode_text("", "", False, 64, 64).embeddings[0]
            torch.testing.assert_close(found.embeddings[row, 77:154], empty, rtol=1e-5, atol=1e-5)
        if found.added:
            # diffusers cuts the text, and what it keeps is the first piece
            pooled = model.pipeline.encode_prompt(prompt=text, device=CPU, do_classifier_free_guidance=False)[2]
            torch.testing.assert_close(found.added["text_embeds"][row], pooled[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_layers_are_counted_from_the_end(model):
    """Diffusers counts the layers that it leaves out: from the last, and for SDXL from the last but one."""
    pipeline, is_sdxl = model.pipeline, "text_encoder_2" in model.pipeline.components
    if not is_sdxl:
        # which diffusers still asks for, and transformers 5 has no more
        object.__setattr__(pipeline.text_encoder, "text_model", pipeline.text_encoder)
    given = dict(prompt="a man", device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=False)
    own = model.encode_text("a man", "", False, 64, 64)
    seen = []
    for skip in (2, 3) if is_sdxl else (1, 2, 3):
        found = model.encode_text("a man", "", False, 64, 64, clip_skip=skip)
        wanted = pipeline.encode_prompt(clip_skip=skip - (2 if is_sdxl else 1), **given)[0]
        if skip > 1:
            assert torch.equal(found.embeddings, wanted)
        seen.append(found.embeddings)
    assert torch.equal(seen[0], own.embeddings) and not torch.equal(seen[0], seen[1])
    with pytest.raises(ShotError, match="has 3 layers; choose a clip skip of at most 3") as caught:
        model.encode_text("a man", "", False, 64, 64, clip_skip=4)
    assert caught.value.code == "clip_skip"


def test_weights_that_turn_the_mean_around_are_said(models):
    network = models["sd1"].pipeline.text_encoder
    found = models["sd1"].encode_text(
        "(a man in a red shirt on a beach, " + "word, " * 30 + f":-{MAX_WEIGHT:g})", "", False, 64, 64
    )
    assert torch.isfinite(found.embeddings).all() and network is not None
    assert any("turn its meaning around" in warning for warning in found.warnings)


def test_textual_inversions_within_weights_and_breaks(tmp_path):
    torch.manual_seed(8)
    truth = Truth("sdxl", tmp_path)
    folder = truth.write_folder(tmp_path / "whole")
    first, second = torch.randn(8, 64), torch.randn(8, 128)
    save_file({"clip_l": first, "clip_g": second}, tmp_path / "Bad Hands (v2).safetensors")
    model = load(f"{folder}|embedding={tmp_path / 'Bad Hands (v2).safetensors'}", CPU)
    for network, tokenizer in _encoders(model):
        vectors = first if network.config.hidden_size == 64 else second
        encoder = Encoder(model.pipeline, network, tokenizer)
        from latentman.backend.models.embeddings import replace_words

        long = ", ".join(["word"] * 36)
        text = replace_words(f"{long}, (bad hands (V2):1.3) BREAK (BAD HANDS (V2):0.5)", model.words)
        pieces = split_into_pieces(encoder, parse_prompt(text))
        table = network.get_input_embeddings().weight
        # it would not fit behind the words, and so it begins a piece
        assert len(pieces) == 3 and pieces[0].weights[72] == 1.0 and pieces[0].ids[73] == tokenizer.eos_token_id
        for piece, weight in zip(pieces[1:], (1.3, 0.5), strict=True):
            assert torch.equal(table[list(piece.ids[1:9])], vectors)
            assert piece.weights[:10] == (1.0, *[weight] * 8, 1.0)


# LoRAs that prompts name


def _write_lora(path, strength=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    torch.manual_seed(2)
    state = {f"{name}.lora_down.weight": torch.randn(2, 64) * strength, f"{name}.lora_up.weight": torch.randn(64, 2)}
    save_file(state, path, {"ss_output_name": "Trained Name"} if path.stem == "style" else None)
    return path


@pytest.mark.parametrize(
    ("checkpoint", "lora"),
    [
        ("models/Stable-diffusion/sub/a.safetensors", "models/Lora/people/style.safetensors"),
        ("models/checkpoints/a.safetensors", "models/loras/style.pt"),
        ("models/Stable-diffusion/a.safetensors", "models/LyCORIS/style.safetensors"),
        ("mine/a.safetensors", "mine/style.safetensors"),
        ("mine/a.safetensors", "mine/Loras/deep/style.safetensors"),
        ("mine/folder", "mine/folder/style.safetensors"),
        ("mine/a.safetensors", "named/deep/style.safetensors"),
        ("hub/of-a-model", "data/loras/style.safetensors"),
    ],
)
def test_where_named_loras_are_looked_for(checkpoint, lora, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LATENTMAN_LORAS", os.pathsep.join([str(tmp_path / "absent"), str(tmp_path / "named")]))
    base = tmp_path / checkpoint
    if not checkpoint.startswith("hub/"):
        base.parent.mkdir(parents=True, exist_ok=True)
        base.mkdir() if base.suffix == "" else base.write_bytes(b"")
    path = _write_lora(tmp_path / lora)
    for name in ("style", "STYLE", path.name, f"{path.parent.name}/style"):
        assert find_named_lora(name, str(base)) == path
    with pytest.raises(ShotError, match="There is no LoRA 'stile'; near ones are style"):
        find_named_lora("stile", str(base))
    if path.suffix == ".safetensors":
        assert find_named_lora("trained name", str(base)) == path


def test_links_to_checkpoints_and_loras(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    checkpoint, lora = tmp_path / "store" / "a.safetensors", _write_lora(tmp_path / "elsewhere" / "style.safetensors")
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"")
    for folder in ("Stable-diffusion", "Lora"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    link = tmp_path / "models" / "Stable-diffusion" / "a.safetensors"
    link.symlink_to(checkpoint)
    (tmp_path / "models" / "Lora" / "mine").symlink_to(lora.parent)
    (lora.parent / "round").symlink_to(tmp_path / "models" / "Lora")
    assert find_named_lora("style", str(link)).resolve() == lora
    with pytest.raises(ShotError, match="There is no LoRA"):
        find_named_lora("style", str(checkpoint))


def test_named_loras_that_are_doubtful(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    with pytest.raises(ShotError, match=r"There is no LoRA 'x' \(looked in no folder\)"):
        find_named_lora("x", "owner/model")
    a, _ = (_write_lora(tmp_path / "data" / "loras" / name / "style.safetensors") for name in ("a", "b"))
    with pytest.raises(ShotError, match="There are 2 LoRAs 'style'"):
        find_named_lora("style", "owner/model")
    assert find_named_lora("a/style", "owner/model") == a == find_named_lora("A\\style", "owner/model")
    (a.parent / "style.pt").write_bytes(b"the same in the older form")
    assert find_named_lora("a/style", "owner/model") == a
    with pytest.raises(ShotError, match="cannot be named in the negative prompt"):
        name_model("owner/model|x", Text("a man", "<lora:style>"))


@pytest.mark.slow
def test_a_prompts_loras_make_another_model_and_job(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_LORAS", str(tmp_path / "loras"))
    truth = Truth("sd1", tmp_path)
    base = truth.write_folder(tmp_path / "whole")
    path = _write_lora(tmp_path / "loras" / "style.safetensors")
    plain, named = Text("a man"), Text("a man<lora:style:0.5>", "blurry")
    assert name_model(base, plain) == base
    assert name_model(base, named) == f"{base}|lora={path}@0.5" == name_model(f"{base}|", named)
    assert name_model(base, Text("a man<lora:style:0>")) == base
    assert name_model(base, Text("a man", background_prompt="a beach<lora:style:-1>")) == f"{base}|lora={path}@-1"
    before = fingerprint(name_model(base, named))
    assert before != fingerprint(name_model(base, Text("a man<lora:style:0.6>")))
    # the cache takes the LoRA out again, and another strength is another model
    cache = ModelCache()
    key = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    weights = [cache.get(name_model(base, text)).unet.get_submodule(key).weight.clone() for text in (plain, named, plain)]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    _write_lora(path, 2.0)
    assert fingerprint(name_model(base, named)) != before
    doubled = cache.get(name_model(base, named)).unet.get_submodule(key).weight
    torch.testing.assert_close(doubled - weights[0], 2 * (weights[1] - weights[0]), rtol=1e-4, atol=1e-6)
    # what the LoRA is called is no text
    model = cache.get(name_model(base, named))
    texts = [model.encode_text(text, "", False, 64, 64).embeddings for text in (named.prompt, plain.prompt)]
    assert torch.equal(*texts)
    with pytest.raises(ShotError, match="is without the LoRA 'style'"):
        cache.get(base).encode_text(named.prompt, "", False, 64, 64)


@pytest.mark.slow
def test_jobs_with_loras_in_their_prompts(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_LORAS", str(tmp_path / "loras"))
    tiny.write_sd(tmp_path)
    name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_v"
    (tmp_path / "loras").mkdir()

    def write(strength):
        torch.manual_seed(2)
        down, up = torch.randn(2, 32) * strength, torch.randn(32, 2)
        state = {f"{name}.lora.down.weight": down, f"{name}.lora.up.weight": up, "unet.nowhere.lora.up.weight": torch.ones(2, 2)}
        save_file(state, tmp_path / "loras" / "style.safetensors")

    def make(prompt, **changes):
        request = samples.request(2, model=str(tmp_path / "whole"), prompt=prompt, preset="per_frame", **changes)
        job = store.open(request, samples.passes(2))
        report = run(job, models, RunCallbacks())
        return job.name, np.stack([job.read_frame(index) for index in range(2)]), report["warnings"]

    store, models = JobStore(tmp_path / "jobs"), ModelCache()
    write(1.0)
    found = [make(f"a man{tag}") for tag in ("", "<lora:style:1>", "<lora:style:0.2>", "<lora:style>")]
    write(2.0)
    found.append(make("a man<lora:style:1>"))
    frames = [made[1] for made in found]
    assert len({made[0] for made in found}) == 5
    assert (frames[1] == frames[3]).all() and all((frames[1] != frames[n]).any() for n in (0, 2, 4))
    assert not found[0][2] and any("'unet.nowhere'" in warning for warning in found[1][2])
    # after all of them the plain model is what it was
    again = store.open(samples.request(2, model=str(tmp_path / "whole"), prompt="a man", preset="per_frame"), samples.passes(2))
    shutil.rmtree(again.folder / "frames")
    assert (make("a man")[1] == frames[0]).all()
    with pytest.raises(ShotError, match="There is no LoRA"):
        make("a man<lora:stile:1>")


def test_shots_are_refused_before_anything_is_rendered(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_LORAS", str(tmp_path))
    for prompt, words in (
        ("a [man:woman:0.5]", "between steps"),
        ("a man <lora:absent:1>", "There is no LoRA 'absent'"),
        ("<lora:style:1>", "nothing but LoRAs"),
        (" \n ", "The prompt is empty"),
    ):
        with pytest.raises(ShotError, match=words):
            check_shot(samples.request(prompt=prompt))
    check_shot(samples.request(prompt="a (man:1.2)"))
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    pair = {f"{name}.lora_down.weight": torch.zeros(2, 768), f"{name}.lora_up.weight": torch.zeros(320, 2)}
    save_file(pair, tmp_path / "style.safetensors")
    with pytest.raises(ShotError, match="is for Stable Diffusion 1"):
        check_shot(samples.request(prompt="a man <lora:style:1>"))


def test_the_starter_takes_weights():
    model = load("starter", CPU)
    passes = samples.passes(2)
    made, said = [], []
    for prompt in ("a man in a red shirt on a beach", "a man in a (red shirt:1.6) on a beach", "(a man in a red shirt on a beach"):
        context = RunContext()
        made.append(torch.stack(list(ShotPipeline(model, samples.request(2, prompt=prompt), passes, context).pictures())))
        said.append(context.warnings)
    assert not torch.equal(made[0], made[1]) and not said[0] and not said[1]
    assert any("is not closed" in warning for warning in said[2])
