"""``python -m tools.mannequin``: makes the mannequin and writes it beside the add-on's character code."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from latentman.shared.skeleton import SMPL_PARENTS

from . import anatomy, atlas, polycube, rig, surface

SHIPPED = Path(__file__).resolve().parents[2] / "blender_addon" / "character" / "data" / "mannequin.npz"


def build() -> dict[str, np.ndarray]:
    """The arrays of an SMPL model file, with ``vt`` (T, 2) and ``ft`` (F, 3) for UV.

    ``v_template`` (V, 3) f32, ``f`` (F, 3) u32, ``weights`` (V, 24) f32, ``J_regressor`` (24, V) f32,
    ``kintree_table`` (2, 24) i64, ``shapedirs`` (V, 3, 10) f32, ``posedirs`` (V, 3, 207) f32.
    """
    cage = polycube.make_cage()
    template = anatomy.Proportions()
    uv = atlas.lay_out(cage, surface.place_control_mesh(cage, template))
    skin = surface.make_skin(cage, uv, template)
    joints = anatomy.place_joints(template)
    origin = joints[0]
    shapes = [surface.make_skin(cage, uv, anatomy.make_shape_variant(n)) for n in range(10)]
    origins = [anatomy.place_joints(anatomy.make_shape_variant(n))[0] for n in range(10)]
    shapedirs = np.stack([(s.points - o) - (skin.points - origin) for s, o in zip(shapes, origins, strict=True)], -1)
    weights = rig.compute_skin_weights(skin, joints)
    points, joints = skin.points - origin, joints - origin
    corner_vertex, corner_uv = skin.quads.ravel(), skin.uv.reshape(-1, 2).round(6)
    vt, corner = np.unique(np.column_stack([corner_vertex, corner_uv]), axis=0, return_inverse=True)
    return {
        "v_template": points.astype(np.float32),
        "f": triangulate(skin.quads).astype(np.uint32),
        "weights": weights.astype(np.float32),
        "J_regressor": rig.compute_joint_regressor(points, joints).astype(np.float32),
        "kintree_table": np.array([SMPL_PARENTS, range(len(SMPL_PARENTS))], np.int64),
        "shapedirs": shapedirs.astype(np.float32),
        "posedirs": rig.fit_pose_correctives(points, joints, weights).astype(np.float32),
        "vt": vt[:, 1:].astype(np.float32),
        "ft": triangulate(corner.reshape(-1, 4)).astype(np.uint32),
    }


def triangulate(quads: np.ndarray) -> np.ndarray:
    """(F, 4) -> (2F, 3), every quad cut along the same diagonal."""
    return quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    model = build()
    np.savez_compressed(args.out, **model)
    print(f"{args.out}: {len(model['v_template'])} vertices, {len(model['f'])} triangles, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
