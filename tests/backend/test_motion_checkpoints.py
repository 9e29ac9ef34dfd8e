"""MDM's checkpoints as they are shipped: folders, files, every architecture against an independent network, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.motion.checkpoints import find_model, load_checkpoint  # noqa: E402
from latentman.backend.motion.diffusion import Schedule  # noqa: E402
from latentman.backend.motion.generate import make  # noqa: E402
from latentman.backend.motion.text import EncodedText  # noqa: E402
from latentman.shared.motion import MotionError  # noqa: E402
from latentman.shared.motion_request import MotionRequest  # noqa: E402
from tests.oracles.mdm import Oracle  # noqa: E402

#: what MDM writes into args.json, besides what a test changes
SHIPPED = {
    "action_file": None,
    "arch": "trans_enc",
    "avg_model_beta": 0.9999,
    "batch_size": 64,
    "cond_mask_prob": 0.1,
    "cuda": True,
    "data_dir": "",
    "dataset": "humanml",
    "diffusion_steps": 8,
    "emb_trans_dec": False,
    "lambda_fc": 0.0,
    "lambda_rcxyz": 0.0,
    "lambda_vel": 0.0,
    "latent_dim": 16,
    "layers": 2,
    "ff_size": 24,
    "noise_schedule": "cosine",
    "num_frames": 60,
    "resume_checkpoint": "",
    "sigma_small": True,
    "unconstrained": False,
}
BERT = {"arch": "trans_dec", "text_encoder_type": "bert"}
ARCHITECTURES = {
    "trans_enc": {},
    "trans_enc masked": {"mask_frames": True},
    "trans_dec with CLIP": {"arch": "trans_dec"},
    "trans_dec with CLIP, masked": {"arch": "trans_dec", "mask_frames": True},
    "emb_trans_dec with CLIP": {"arch": "trans_dec", "emb_trans_dec": True},
    "emb_trans_dec with CLIP, masked": {"arch": "trans_dec", "emb_trans_dec": True, "mask_frames": True},
    "trans_dec with BERT": BERT | {"mask_frames": True},
    "emb_trans_dec with BERT": BERT | {"emb_trans_dec": True, "mask_frames": True},
    "concat": BERT | {"emb_policy": "concat", "mask_frames": True},
    "gru": {"arch": "gru"},
    "DiP": BERT | {"mask_frames": True, "pred_len": 40, "context_len": 20},
    "DiP with a token": BERT
    | {"emb_trans_dec": True, "emb_policy": "concat", "mask_frames": True, "pred_len": 40, "context_len": 20},
    "as long as its context": BERT | {"mask_frames": True, "pred_len": 0, "context_len": 20},
    "trans_enc of pieces": {"mask_frames": True, "pred_len": 40, "context_len": 20},
    "few positions": {"pos_embed_max_len": 220},
    # trans_dec alone reads this
    "a switch without effect": {"emb_trans_dec": True},
}


def _write(folder, arguments=(), seed=0, name="model000475000.pt", change=lambda state: state) -> Oracle:
    """A checkpoint's folder as MDM leaves it, with the optimiser's state; returns the network."""
    folder.mkdir(parents=True, exist_ok=True)
    given = SHIPPED | dict(arguments)
    torch.manual_seed(seed)
    width = 768 if given.get("text_encoder_type") == "bert" else 512
    names = ("emb_trans_dec", "mask_frames", "emb_policy", "pos_embed_max_len")
    oracle = Oracle(
        given["arch"], given["latent_dim"], given["layers"], given["ff_size"], width, **{n: given[n] for n in names if n in given}
    ).eval()
    state = {key: value for key, value in oracle.state_dict().items() if not key.startswith("clip_model.")}
    torch.save(change(state), folder / name)
    optimiser = torch.optim.AdamW(oracle.parameters())
    torch.save(optimiser.state_dict(), folder / name.replace("model", "opt"))
    (folder / "args.json").write_text(json.dumps(given, indent=4, sort_keys=True))
    rng = np.random.default_rng(0)
    np.save(folder / "Mean.npy", rng.normal(0, 0.1, 263).astype(np.float32))
    np.save(folder / "Std.npy", rng.uniform(0.05, 0.5, 263).astype(np.float32))
    return oracle


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_the_one_of_mdm(tmp_path, name):
    oracle = _write(tmp_path, ARCHITECTURES[name])
    model = load_checkpoint(tmp_path)
    torch.manual_seed(3)
    batch, frames, words = 3, 12, 5 if model.text_encoder == "bert" else 1
    x, t = torch.randn(batch, frames, 263), torch.tensor([0, 3, 7])
    text = torch.randn(batch, words, 768 if words > 1 else 512)
    no_word = torch.zeros(batch, words, dtype=torch.bool)
    no_word[1:, words - 2 :] = words > 1
    lengths = torch.tensor([12, 9, 5])
    prefix = torch.randn(batch, 20, 263) if model.network.shape.predicted else None
    found = model.network(x, t, text, no_word if words > 1 else None, lengths, prefix)

    def own(rows):
        return rows.permute(0, 2, 1)[:, :, None]

    mask = (torch.arange(frames)[None] < lengths[:, None])[:, None, None]
    expected = oracle(
        own(x), t, text.permute(1, 0, 2), no_word if words > 1 else None, mask, None if prefix is None else own(prefix)
    )
    assert found.shape == x.shape and torch.allclose(found, expected[:, :, 0].permute(0, 2, 1), atol=2e-5)
    if "pred_len" in ARCHITECTURES[name]:
        assert model.network.shape.predicted == (ARCHITECTURES[name]["pred_len"] or 20)


@pytest.mark.parametrize("name", ["emb_trans_dec with CLIP", "gru", "DiP with a token", "as long as its context"])
def test_every_kind_makes_motions(tmp_path, name):
    _write(tmp_path, ARCHITECTURES[name])
    model = load_checkpoint(tmp_path)
    width = model.network.embed_text.in_features

    def text(_):
        return EncodedText(torch.ones(1, 1, width), None, False)

    made = make(model, MotionRequest("a person walks", 3.0, 1, 2), text, torch.device("cpu"))
    assert made.vectors.shape == (2, 60, 263) and np.isfinite(made.vectors).all()


def test_the_last_step_is_taken_and_never_the_optimiser(tmp_path):
    for seed, step in enumerate((50_000, 475_000, 1_000_000)):
        _write(tmp_path, seed=seed, name=f"model{step:09}.pt")
    last = _write(tmp_path, seed=2, name="model001000000.pt")
    found = load_checkpoint(tmp_path)
    assert find_model(tmp_path).name == "model001000000.pt"
    assert torch.equal(found.network.embed_text.weight, last.embed_text.weight)
    # more digits than the others, which sorts by name before them
    _write(tmp_path, seed=5, name="model9.pt")
    assert find_model(tmp_path).name == "model001000000.pt"
    (tmp_path / "zeros.pt").write_bytes(b"")
    assert find_model(tmp_path).name == "model001000000.pt"


def test_the_ways_to_name_a_checkpoint(tmp_path):
    folder = tmp_path / "humanml_trans_enc_512" / "humanml_trans_enc_512"
    _write(folder)
    model = folder / "model000475000.pt"
    for path in (folder.parent, folder, folder / "args.json", model, str(folder)):
        assert load_checkpoint(path).folder == folder
    with pytest.raises(MotionError, match="optimiser's state"):
        load_checkpoint(folder / "opt000475000.pt")
    (folder / "opt000475000.pt").rename(folder / "model999999999.pt")
    with pytest.raises(MotionError, match="optimiser's state and no network"):
        load_checkpoint(folder)
    _write(folder.parent / "other")
    with pytest.raises(MotionError, match="holds 2 checkpoints"):
        load_checkpoint(folder.parent)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"model": {k: v * 0 for k, v in state.items()}, "model_avg": state},
        lambda state: {"model": state},
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {"model": {k: v * 0 for k, v in state.items()}, "ema": state},
        lambda state: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in state.items()},
        lambda state: state | {"clip_model.text_model.embeddings.weight": torch.zeros(3, 2)},
        lambda state: {k: v for k, v in state.items() if not k.endswith(".pe")},
    ],
)
def test_averages_and_wrappers(tmp_path, change):
    oracle = _write(tmp_path, change=change)
    assert torch.equal(load_checkpoint(tmp_path).network.embed_text.weight, oracle.embed_text.weight)


def test_statistics_are_found_where_mdm_has_them(tmp_path):
    folder = tmp_path / "mdm" / "save" / "humanml_trans_enc_512"
    _write(folder)
    there = tmp_path / "mdm" / "dataset" / "HumanML3D"
    there.mkdir(parents=True)
    for name in ("Mean.npy", "Std.npy"):
        (folder / name).rename(there / name)
    assert np.array_equal(load_checkpoint(folder).mean, np.load(there / "Mean.npy"))
    np.save(there / "Mean.npy", np.zeros(251, np.float32))
    with pytest.raises(MotionError, match="are KIT-ML's; copy HumanML3D's own"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"dataset": "kit"}, "KIT-ML, whose skeleton has 21 joints"),
        ({"dataset": "humanact12"}, "HumanAct12, whose 12 actions"),
        ({"dataset": "uestc"}, "UESTC, whose 40 actions"),
        ({"dataset": "babel"}, "trained on 'babel'"),
        ({"unconstrained": True}, "trained without texts"),
        ({"cond_mode": "no_cond"}, "trained without texts"),
        ({"cond_mode": "action"}, "asked by 'action'"),
        ({"multi_target_cond": True}, "targets for joints"),
        ({"lambda_target_loc": 1.0}, "targets for joints"),
        ({"text_encoder_type": "bert"}, "pairs the text encoder bert with trans_enc"),
        ({"text_encoder_type": "t5"}, "text encoder 't5' is unknown"),
        ({"arch": "trans_dec", "emb_policy": "concat"}, "concat without the text encoder bert"),
        ({"emb_policy": "mean"}, "emb_policy 'mean' is unknown"),
        ({"arch": "mlp"}, "architecture 'mlp' is unknown; MDM has trans_enc, trans_dec, gru"),
        ({"arch": "gru", "context_len": 20}, "context_len with gru"),
        ({"pred_len": 40, "context_len": 0}, "a pred_len but no context_len"),
        ({"noise_schedule": "sigmoid"}, "noise schedule 'sigmoid' is unknown; MDM has cosine and linear"),
        ({"pos_embed_max_len": 60}, "'pos_embed_max_len': 60, expected a whole number from 197"),
        ({"diffusion_steps": 6000}, "'diffusion_steps': 6000"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_true_sentence(tmp_path, arguments, sentence):
    _write(tmp_path)
    (tmp_path / "args.json").write_text(json.dumps(SHIPPED | arguments))
    with pytest.raises(MotionError, match=sentence) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_chain_is_the_one_it_was_trained_with(tmp_path):
    _write(tmp_path, {"noise_schedule": "linear", "sigma_small": False, "cond_mask_prob": 0.0})
    model = load_checkpoint(tmp_path)
    assert (model.noise_schedule, model.large_variance, model.guided, model.guidance) == ("linear", True, False, 1.0)
    linear, small = Schedule(1000, "linear", True), Schedule(1000, "linear")
    assert linear.betas[0] == pytest.approx(1e-4) and linear.betas[-1] == pytest.approx(0.02)
    assert np.allclose(np.exp(linear.log_variance[1:]), linear.betas[1:]) and linear.log_variance[0] == small.log_variance[0]
    calls = []

    def text(_):
        calls.append(1)
        return EncodedText(torch.ones(1, 1, 512), None, False)

    made = make(model, MotionRequest("a person walks", 1.0, guidance_scale=5.0), text, torch.device("cpu"))
    assert "guidance was left out" in made.warnings[0]
    plain = make(model, MotionRequest("a person walks", 1.0), text, torch.device("cpu"))
    assert np.array_equal(made.vectors, plain.vectors) and not plain.warnings
