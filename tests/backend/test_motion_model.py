"""MDM's network, sampler and files against hand-computed values and synthetic checkpoints of the official layout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizerFast,
)

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.models.registry import STARTER  # noqa: E402
from latentman.backend.motion.checkpoints import load_checkpoint  # noqa: E402
from latentman.backend.motion.diffusion import (  # noqa: E402
    InpaintingMask,
    Schedule,
    make_cosine_betas,
    make_guided_denoiser,
    sample_ddim,
    sample_ddpm,
)
from latentman.backend.motion.features import encode  # noqa: E402
from latentman.backend.motion.generate import OVERLAP, make, make_standing_pose, split_segments  # noqa: E402
from latentman.backend.motion.network import MDM, Architecture  # noqa: E402
from latentman.backend.motion.text import EncodedText, TextEncoder  # noqa: E402
from latentman.blender_addon.motion import readers  # noqa: E402
from latentman.shared.motion import MotionError  # noqa: E402
from latentman.shared.motion_request import Kept, MotionRequest, check_kept, frame_count  # noqa: E402

SMALL = {"latent_dim": 16, "layers": 2, "ff_size": 32, "diffusion_steps": 6}


def _write(folder, arguments=None, change=None, **shape):
    """A synthetic checkpoint folder; returns its state dict."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    given = {**SMALL, **(arguments or {})}
    network = MDM(
        Architecture(
            latent=given["latent_dim"],
            layers=given["layers"],
            feedforward=given["ff_size"],
            text_width=given.get("text_width", 512),
            **shape,
        )
    )
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state["clip_model.positional_embedding"] = torch.zeros(3)
    (folder / "args.json").write_text(json.dumps(given))
    torch.save(change(state) if change else state, folder / "model000050000.pt")
    rng = np.random.default_rng(0)
    np.save(folder / "Mean.npy", rng.normal(0, 0.1, 263).astype(np.float32))
    np.save(folder / "Std.npy", rng.uniform(0.05, 0.5, 263).astype(np.float32))
    return network.eval()


def test_the_official_network_has_its_parameters():
    network = MDM(Architecture())
    assert len(network.state_dict()) == 108
    assert sum(p.numel() for p in network.parameters()) == 17_880_327
    keys = set(network.state_dict())
    assert {
        "input_process.poseEmbedding.weight",
        "sequence_pos_encoder.pe",
        "seqTransEncoder.layers.7.self_attn.in_proj_weight",
        "embed_timestep.sequence_pos_encoder.pe",
        "embed_timestep.time_embed.2.bias",
        "embed_text.weight",
        "output_process.poseFinal.bias",
    } <= keys
    decoder = MDM(Architecture(kind="trans_dec", text_width=768))
    assert decoder.embed_text.weight.shape == (512, 768) and "seqTransDecoder.layers.0.multihead_attn.in_proj_bias" in set(
        decoder.state_dict()
    )


@pytest.mark.parametrize(
    "steps, first, log_first", [(1000, 4.1284e-5, -10.73408), (50, 0.0017475135, -6.73616), (10, 0.0279073, None)]
)
def test_the_chain_has_the_known_constants(steps, first, log_first):
    schedule = Schedule(steps)
    assert schedule.betas[0] == pytest.approx(first, rel=1e-4) and schedule.betas.max() == 0.999
    if log_first:
        assert schedule.log_variance[0] == pytest.approx(log_first, abs=1e-4)
    if steps == 50:
        assert schedule.alpha_bars[-1] == pytest.approx(9.712e-7, rel=1e-3)
    assert np.allclose(make_cosine_betas(steps), schedule.betas)


def test_a_whole_chain_by_hand():
    """Three steps with a denoiser that halves its input, on one number, against the arithmetic written out."""
    schedule = Schedule(3)
    generator = torch.Generator().manual_seed(4)
    found = sample_ddpm(lambda x, t: x * 0.5, schedule, torch.full((1, 1, 1), 2.0), generator)
    fresh = torch.Generator().manual_seed(4)
    level = [math.cos((n / 3 + 0.008) / 1.008 * math.pi / 2) ** 2 for n in range(4)]
    betas = [min(1 - level[n + 1] / level[n], 0.999) for n in range(3)]
    bars = [1 - betas[0], (1 - betas[0]) * (1 - betas[1]), (1 - betas[0]) * (1 - betas[1]) * (1 - betas[2])]
    x = 2.0
    for n in (2, 1):
        mean = (
            betas[n] * math.sqrt(bars[n - 1]) / (1 - bars[n]) * 0.5 * x
            + (1 - bars[n - 1]) * math.sqrt(1 - betas[n]) / (1 - bars[n]) * x
        )
        variance = betas[n] * (1 - bars[n - 1]) / (1 - bars[n])
        x = mean + math.sqrt(variance) * float(torch.randn((1, 1, 1), generator=fresh))
    assert float(found) == pytest.approx(x * 0.5, rel=1e-5)  # the last step is the clean prediction itself


def test_a_perfect_denoiser_is_believed():
    truth = torch.randn(2, 5, 4)
    for found in (
        sample_ddim(lambda x, t: truth, Schedule(50), torch.randn(2, 5, 4), 7),
        sample_ddpm(lambda x, t: truth, Schedule(20), torch.randn(2, 5, 4), torch.Generator()),
    ):
        assert torch.allclose(found, truth, atol=1e-5)


def test_ddim_keeps_the_noise_level():
    """With the true noise known, every intermediate state is the clean motion plus that noise at the level's strength."""
    schedule, truth, noise, seen = Schedule(40), torch.randn(1, 6, 3), torch.randn(1, 6, 3), []
    start = math.sqrt(schedule.alpha_bars[-1]) * truth + math.sqrt(1 - schedule.alpha_bars[-1]) * noise

    def denoise(x, t):
        n = int(t[0])
        seen.append(
            torch.allclose(x, math.sqrt(schedule.alpha_bars[n]) * truth + math.sqrt(1 - schedule.alpha_bars[n]) * noise, atol=1e-3)
        )
        return truth

    sample_ddim(denoise, schedule, start, 8)
    assert len(seen) == 8 and all(seen)


def test_pins_are_kept_and_the_rest_is_free():
    values, mask = torch.full((1, 6, 3), 7.0), torch.zeros(1, 6, 3, dtype=torch.bool)
    mask[:, [0, 5]] = True
    seen = []

    def denoise(x, t):
        seen.append(x.clone())
        return torch.zeros_like(x)

    for found in (
        sample_ddpm(denoise, Schedule(5), torch.randn(1, 6, 3), torch.Generator(), InpaintingMask(values, mask)),
        sample_ddim(denoise, Schedule(5), torch.randn(1, 6, 3), 5, InpaintingMask(values, mask)),
    ):
        assert (found[mask] == 7).all() and (found[~mask] == 0).all()
    assert seen[-1][0, 0].mean() > 3, "the network sees the pinned frames while it fills the others"


def test_guidance_moves_away_from_no_text():
    def network(x, t, text, **_):
        return x + text.sum()

    x, text = torch.zeros(1, 2, 3), torch.ones(1, 1, 4)
    assert float(make_guided_denoiser(network, text, 2.5)(x, torch.zeros(1)).mean()) == pytest.approx(10)
    assert float(make_guided_denoiser(network, text, 1.0)(x, torch.zeros(1)).mean()) == pytest.approx(4)


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"model": s, "model_avg": s}, lambda s: {"model_avg": s}])
def test_checkpoints_load_unchanged(tmp_path, wrapped):
    network = _write(tmp_path, change=wrapped)
    model = load_checkpoint(tmp_path)
    x, t, text = torch.randn(2, 9, 263), torch.tensor([1, 3]), torch.randn(2, 1, 512)
    assert torch.allclose(model.network(x, t, text), network(x, t, text), atol=1e-6)
    assert model.diffusion_steps == 6 and model.text_encoder == "clip"


def test_the_condition_is_a_token_of_its_own():
    """Against the same layers called one by one, as the layout of the checkpoints says."""
    torch.manual_seed(1)
    network = MDM(Architecture(latent=16, feedforward=32, layers=2, text_width=8)).eval()
    x, t, text = torch.randn(1, 4, 263), torch.tensor([3]), torch.randn(1, 1, 8)
    width = torch.arange(0, 16, 2) * (-math.log(10000) / 16)
    table = torch.stack([torch.stack([torch.sin(n * width.exp()), torch.cos(n * width.exp())], -1).flatten() for n in range(5)])
    embed = network.embed_timestep.time_embed
    condition = embed[2](torch.nn.functional.silu(embed[0](table[3]))) + network.embed_text(text[0, 0])
    tokens = torch.cat([condition[None], network.input_process.poseEmbedding(x[0])]) + table
    for layer in network.seqTransEncoder.layers:
        tokens = layer(tokens[:, None])[:, 0]
    assert torch.allclose(network(x, t, text)[0], network.output_process.poseFinal(tokens[1:]), atol=1e-5)


def test_decoder_models_look_at_every_token_that_is_one(tmp_path):
    arguments = {"arch": "trans_dec", "text_encoder_type": "bert", "text_width": 24, "mask_frames": True}
    _write(tmp_path, arguments, kind="trans_dec")
    network = load_checkpoint(tmp_path).network
    x, t, text = torch.randn(1, 7, 263), torch.tensor([2]), torch.randn(1, 5, 24)
    padding = torch.tensor([[False, False, False, True, True]])
    first = network(x, t, text, padding, torch.tensor([7]))
    other = text.clone()
    other[:, 3:] = 9
    assert torch.allclose(first, network(x, t, other, padding, torch.tensor([7])), atol=1e-5)
    other[:, 1] = 9
    assert not torch.allclose(first, network(x, t, other, padding, torch.tensor([7])), atol=1e-3)


@pytest.mark.parametrize(
    "arguments, change, sentence",
    [
        ({}, lambda s: {k: v for k, v in s.items() if "norm1" not in k}, "lacks parameter 'seqTransEncoder.layers.0.norm1"),
        ({}, lambda s: s | {"embed_action.weight": torch.zeros(2)}, "has the unknown parameter 'embed_action"),
        ({}, lambda s: s | {"embed_text.bias": torch.zeros(3)}, "other sizes"),
        ({"arch": "mamba"}, None, "architecture 'mamba' is unknown; MDM has trans_enc, trans_dec, gru"),
        ({"multi_target_cond": True}, None, "targets for joints"),
        ({"dataset": "kit"}, None, "trained on KIT-ML.*HumanML3D"),
        ({"text_encoder_type": "t5"}, None, "text encoder 't5'"),
        ({}, lambda s: [1, 2], "holds no network"),
    ],
)
def test_other_checkpoints_are_refused_in_a_sentence(tmp_path, arguments, change, sentence):
    _write(tmp_path, arguments, change)
    with pytest.raises(MotionError, match=sentence):
        load_checkpoint(tmp_path)


def test_files_that_are_missing_or_wrong(tmp_path):
    with pytest.raises(MotionError, match=r"holds no model\*\.pt or \.safetensors file"):
        load_checkpoint(tmp_path)
    _write(tmp_path)
    std = np.load(tmp_path / "Std.npy")
    np.save(tmp_path / "Std.npy", np.concatenate([std[:4] / 100, std[4:]]))
    with pytest.raises(MotionError, match="evaluators"):
        load_checkpoint(tmp_path)
    (tmp_path / "Std.npy").unlink()
    with pytest.raises(MotionError, match=r"no readable Mean\.npy"):
        load_checkpoint(tmp_path)
    (tmp_path / "model000050000.pt").write_bytes(b"nothing")
    with pytest.raises(MotionError, match="cannot be read"):
        load_checkpoint(tmp_path)
    (tmp_path / "args.json").unlink()
    with pytest.raises(MotionError, match=r"args\.json is missing"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"text": "  "}, "text is empty"),
        ({"seconds": 0.0}, "out of range"),
        ({"seconds": 60.0}, "choose 0.5 to 40"),
        ({"seconds": float("nan")}, "out of range"),
        ({"variants": 0}, "variants"),
        ({"guidance_scale": float("inf")}, "guidance"),
        ({"steps": -1}, "steps"),
    ],
)
def test_bad_requests_are_a_sentence(change, sentence):
    with pytest.raises(MotionError, match=sentence):
        frame_count(MotionRequest(**({"text": "a person waves"} | change)))


def test_the_same_seed_gives_the_same_variants(tmp_path):
    _write(tmp_path)
    model = load_checkpoint(tmp_path)
    known = EncodedText(torch.randn(1, 1, 512), None, False)

    def text(_: str) -> EncodedText:
        return known

    first, again = (make(model, MotionRequest("x", 2.0, 3, 2), text, torch.device("cpu")).vectors for _ in range(2))
    assert first.shape == (2, 40, 263) and (first == again).all() and not np.allclose(first[0], first[1])
    quick = make(model, MotionRequest("x", 2.0, 3, 1, steps=3), text, torch.device("cpu")).vectors
    assert quick.shape == (1, 40, 263) and np.isfinite(quick).all()


@pytest.fixture
def clip(tmp_path):
    """A tiny CLIP text encoder with projection, on the starter's tokenizer."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(STARTER / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
        projection_dim=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    CLIPTextModelWithProjection(config).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_texts_are_cut_as_mdm_does(clip):
    encode = TextEncoder("clip", str(clip), torch.device("cpu"))
    short, long = encode("a person"), encode("a person walks " * 20)
    assert short.vectors.shape == (1, 1, 512) and not short.cut and long.cut
    assert not torch.allclose(short.vectors, long.vectors)
    with pytest.raises(MotionError, match=r"'openai/clip-vit-base-patch32' on the model hub.*--text-encoder"):
        TextEncoder("clip", str(clip / "absent"), torch.device("cpu"))


def test_bert_gives_every_token(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "person", "waves"]))
    DistilBertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    DistilBertModel(DistilBertConfig(vocab_size=8, dim=24, hidden_dim=32, n_layers=1, n_heads=2)).save_pretrained(tmp_path)
    found = TextEncoder("bert", str(tmp_path), torch.device("cpu"))("a person waves")
    assert found.vectors.shape == (1, 5, 24) and not found.padding.any()


def test_the_command_writes_what_the_add_on_reads(tmp_path, clip, capsys):
    _write(tmp_path / "mdm")
    out = tmp_path / "out" / "motion.npz"
    arguments = ["motion", "a person waves", "--model", str(tmp_path / "mdm"), "--text-encoder", str(clip), "--out", str(out)]
    assert main([*arguments, "--seconds", "2", "--variants", "2"]) == 0
    with np.load(out) as data:
        assert data["vectors"].shape == (2, 40, 263) and float(data["fps"]) == 20 and str(data["text"]) == "a person waves"
    file = readers.read(out)
    assert file.layout == "motion from text" and [c.text for c in file.clips] == ["a person waves (1)", "a person waves (2)"]
    with pytest.raises(SystemExit) as refused:
        main([*arguments, "--seconds", "60"])
    assert refused.value.code == 2
    assert "choose 0.5 to 40" in capsys.readouterr().err


HUMANML = Path(__file__).resolve().parents[3] / "shared" / "data" / "humanml3d"


@pytest.mark.skipif(not HUMANML.exists(), reason="HumanML3D's sample does not lie beside the project")
def test_features_are_humanml3ds():
    """Away from the ends, where the smoothing of the heading reaches over frames that the sample does not have."""
    joints, vectors = (np.load(HUMANML / f"012314_{name}.npy") for name in ("joints", "vec"))
    assert np.abs(encode(joints, floor=0.0) - vectors[:-1])[40:90].max() < 5e-6


def _performance(seed=3, action="walk"):
    from tools.motions.library import make_performance

    return make_performance(seed, action=action)


def test_features_and_joints_are_one_motion():
    from latentman.blender_addon.motion.layouts import humanml_to_joints

    for action in ("walk", "turn", "kick"):
        joints = _performance(action=action).joints.astype(float)
        found = humanml_to_joints(encode(joints, floor=0.0))
        # decoding starts at no turn at all: what differs is one turn about the vertical for the whole clip
        a, b = (j.reshape(-1, 3)[:, [0, 2]] for j in (joints[:-1] - joints[0, 0] * [1, 0, 1], found))
        turn = np.angle(((b[:, 0] + 1j * b[:, 1]) * np.conj(a[:, 0] + 1j * a[:, 1])).sum())
        aligned = (a[:, 0] + 1j * a[:, 1]) * np.exp(1j * turn)
        assert np.abs(aligned - (b[:, 0] + 1j * b[:, 1])).max() < 1e-4 and np.abs(found[..., 1] - joints[:-1, :, 1]).max() < 1e-5
    with pytest.raises(MotionError, match="two frames"):
        encode(joints[:1])


def test_motions_are_taken_out_of_the_ground_and_nothing_else():
    from latentman.backend.motion.grounding import HEIGHTS, lift_to_ground

    vectors = encode(_performance(action="wave").joints.astype(float), floor=0.0)
    assert (lift_to_ground(vectors, float(vectors[:, HEIGHTS].min())) == vectors).all()
    sunk = vectors.copy()
    sunk[10:20, HEIGHTS] -= 0.02
    found = lift_to_ground(np.stack([vectors, sunk]), 0.018)
    assert found[1][:, HEIGHTS].min() >= 0.018 - 1e-6 and np.abs(found[1][40:] - sunk[40:]).max() == 0
    others = np.setdiff1d(np.arange(263), HEIGHTS)
    assert (found[1][:, others] == sunk[:, others]).all()
    assert np.abs(np.diff(found[1][:, 3] - sunk[:, 3])).max() < 0.01, "the lift comes and goes over several frames"


def test_feet_that_stand_do_not_slide_and_travel_stays():
    from latentman.backend.motion.features import _rotate_about_y
    from latentman.backend.motion.grounding import remove_foot_sliding
    from latentman.blender_addon.motion.foot_contacts import compute_skating_ratio
    from latentman.blender_addon.motion.layouts import humanml_to_joints

    def slid(vectors: np.ndarray, by: float) -> np.ndarray:
        out = vectors.copy()
        out[:, 2] += by
        back = _rotate_about_y(2 * vectors[:, 0], np.tile(np.array([0.0, 0.0, by]), (len(vectors), 22, 1)))
        out[:, 193:259] += back.reshape(len(vectors), -1)
        return out

    walk = encode(_performance(action="walk").joints.astype(float), floor=0.0)
    sliding = slid(walk, 0.04)
    mended = remove_foot_sliding(sliding, 0.018)
    before, after, asked = (humanml_to_joints(v) for v in (sliding, mended, walk))
    assert compute_skating_ratio(before, 20.0) > 0.3 and compute_skating_ratio(after, 20.0) < 0.1
    off_before, off_after = (np.linalg.norm(j[-1, 0] - asked[-1, 0]) for j in (before, after))
    assert off_after < 0.25 * off_before
    # velocities and positions still say the same
    fit, real = (
        np.linalg.norm(v[:-1, 193:259].reshape(-1, 22, 3), axis=-1) - np.linalg.norm(np.diff(j, axis=0), axis=-1)
        for v, j in ((mended, after), (walk, asked))
    )
    assert np.abs(fit).max() < np.abs(real).max() + 1e-3
    # a whole body carried along says nothing about its feet; a leap has none that stand
    stand = np.tile(walk[:1], (40, 1))
    stand[:, :3] = stand[:, 193:259] = 0.0
    stand[:, 259:] = 1.0
    stand[:, 32] = stand[:, 35] = 0.018
    assert (remove_foot_sliding(slid(stand, 0.04), 0.018) == slid(stand, 0.04)).all()
    leap = slid(stand, 0.1)
    leap[:, [32, 35]] += 0.3
    assert (remove_foot_sliding(leap, 0.018) == leap).all() and (remove_foot_sliding(walk[:1], 0.018) == walk[:1]).all()


@pytest.mark.parametrize(
    "texts, frames", [(["a"], 80), (["a"], 196), (["a"], 197), (["a", "b"], 160), (["a"], 800), (["a", "b", "c"], 700)]
)
def test_long_motions_are_passages_that_fit(texts, frames):
    found = split_segments(texts, frames)
    assert sum(s.frames for s in found) == frames and [t for t in dict.fromkeys(s.text for s in found)] == texts
    assert all(s.frames + s.overlap <= 196 for s in found) and all(s.overlap == (OVERLAP if n else 0) for n, s in enumerate(found))


def _any_text(_: str) -> EncodedText:
    return EncodedText(torch.ones(1, 1, 512), None, False)


def test_long_motions_go_on_where_the_passage_before_ended(tmp_path):
    _write(tmp_path)
    model, seen = load_checkpoint(tmp_path), []
    made = make(
        model, MotionRequest("one | two", 12.0), _any_text, torch.device("cpu"), step_done=lambda step, of: seen.append((step, of))
    )
    assert made.vectors.shape == (1, 240, 263) and seen[-1][0] == seen[-1][1] == len(seen)
    first = make(model, MotionRequest("one", 6.0), _any_text, torch.device("cpu")).vectors
    assert np.allclose(made.vectors[:, :120], first, atol=1e-5), "the first passage does not know of the second"


DIP = {"arch": "trans_dec", "text_encoder_type": "bert", "text_width": 512, "mask_frames": True, "pred_len": 40, "context_len": 20}


@pytest.mark.parametrize("policy", ["add", "concat"])
def test_autoregressive_models_go_on_from_their_own_frames(tmp_path, policy):
    """DiP: 20 clean frames in front of 40 noisy ones, of which only the latter come out."""
    _write(tmp_path, {**DIP, "emb_policy": policy}, kind="trans_dec")
    model = load_checkpoint(tmp_path)
    network = model.network
    assert (network.shape.context, network.shape.predicted, network.shape.time_token) == (20, 40, policy == "concat")
    x, t, text, prefix = torch.randn(1, 40, 263), torch.tensor([2]), torch.randn(1, 5, 512), torch.randn(1, 20, 263)
    padding = torch.tensor([[False, False, False, True, True]])
    out = network(x, t, text, padding, torch.tensor([40]), prefix)
    assert out.shape == x.shape and not torch.allclose(out, network(x, t, text, padding, torch.tensor([40]), prefix + 1), atol=1e-3)
    short = network(x, t, text, padding, torch.tensor([30]), prefix)
    other = torch.cat([x[:, :30], x[:, 30:] + 5], 1)
    assert torch.allclose(short[:, :30], network(other, t, text, padding, torch.tensor([30]), prefix)[:, :30], atol=1e-5)
    # by hand: the whole row of frames through the decoder, words and time as its memory
    words = network.embed_text(text.transpose(0, 1))
    time = network.embed_timestep(t)
    memory = torch.cat([time, words]) if policy == "concat" else words + time
    mask = torch.cat([padding[:, :1] & False, padding], 1) if policy == "concat" else padding
    row = network.sequence_pos_encoder(network.input_process.poseEmbedding(torch.cat([prefix, x], 1).transpose(0, 1)))
    expected = network.output_process.poseFinal(network.seqTransDecoder(row, memory, memory_key_padding_mask=mask)[20:])
    assert torch.allclose(out, expected.transpose(0, 1), atol=1e-5)


def test_autoregressive_motions_are_as_long_as_asked(tmp_path):
    _write(tmp_path, DIP, kind="trans_dec")
    model, heard, seen = load_checkpoint(tmp_path), [], []

    def text(sentence):
        heard.append(sentence)
        return EncodedText(torch.full((1, 3, 512), float(len(sentence))), torch.zeros(1, 3, dtype=torch.bool), False)

    cpu = torch.device("cpu")
    made = make(model, MotionRequest("one | three", 13.0, 4, 2), text, cpu, step_done=lambda step, of: seen.append((step, of)))
    assert made.vectors.shape == (2, 260, 263) and np.isfinite(made.vectors).all() and seen[-1] == (48, 48)
    assert heard == ["one"] * 4 + ["three"] * 4, "130 frames each are three pieces of 40 and one of 10"
    again = make(model, MotionRequest("one | two", 13.0, 4, 2), text, cpu).vectors
    assert np.array_equal(made.vectors[:, :130], again[:, :130]), "the past does not depend on what comes"
    start = make_standing_pose(model) * model.std + model.mean
    assert start.shape == (20, 263) and np.abs(start[:, :3]).max() < 1e-6 and np.allclose(start[:, 259:], 1, atol=1e-5)
    with pytest.raises(MotionError, match="cannot keep"):
        make(model, MotionRequest("one", 3.0), text, cpu, Kept(np.zeros((60, 22, 3), np.float32), np.ones((60, 3), bool)))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_what_is_kept_comes_out_as_it_was(tmp_path, part):
    from latentman.backend.motion.inpainting import is_change_feature, list_feature_parts

    _write(tmp_path)
    model = load_checkpoint(tmp_path)
    joints = next(p.joints[:60] for p in map(_performance, range(20)) if len(p.joints) >= 60)
    parts = np.zeros((60, 3), bool)
    parts[10:40, part] = True
    made = make(model, MotionRequest("x", 3.0), _any_text, torch.device("cpu"), Kept(joints, parts)).vectors[0]
    true = encode(np.concatenate([joints, joints[-1:]]), floor=float(joints[..., 1].min()))
    own = list_feature_parts() == part
    assert own.any() and np.abs(made[10:39, own] - true[10:39, own]).max() < 1e-4
    assert np.abs(made[39, own & ~is_change_feature()] - true[39, own & ~is_change_feature()]).max(initial=0) < 1e-4
    assert np.abs(made[10:39, ~own] - true[10:39, ~own]).max() > 0.05 and np.abs(made[50, own] - true[50, own]).max() > 0.01


def test_what_cannot_be_kept_is_a_sentence():
    joints, parts = np.zeros((40, 22, 3), np.float32), np.zeros((40, 3), np.uint8)
    assert check_kept(MotionRequest("x", 2.0), {}) is None
    assert check_kept(MotionRequest("x", 2.0), {"joints": joints, "parts": parts}).parts.dtype == bool
    with pytest.raises(MotionError, match="trim it"):
        check_kept(MotionRequest("x", 12.0), {"joints": joints, "parts": parts})
    with pytest.raises(MotionError, match="40 frames of 22"):
        check_kept(MotionRequest("x", 2.0), {"joints": joints[:30], "parts": parts})


def test_other_models_plug_in_by_an_entry_point(monkeypatch):
    from importlib.metadata import EntryPoint

    from latentman.backend.motion import registry
    from latentman.backend.motion.registry import MadeMotion

    class Still:
        """Stands."""

        def make(self, request, kept, step_done):
            step_done(1, 1)
            return MadeMotion(np.zeros((request.variants, frame_count(request), 263), np.float32), ())

    class Entry(EntryPoint):
        def load(self):
            return Still

    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry("still", "nowhere:Still", group)])
    assert registry.names() == ("starter", "kimodo", "still")
    source = registry.load("still", torch.device("cpu"))
    assert source.make(MotionRequest("x", 1.0, variants=2), None, lambda step, of: None).vectors.shape == (2, 20, 263)
    with pytest.raises(MotionError, match="choose starter, kimodo, still"):
        registry.load("absent", torch.device("cpu"))
