"""Saved passes as the pictures that other tools take: depth, normals, OpenPose skeletons and DensePose's IUV.

In go ``FramePasses`` and their manifest, out come (F, H, W, 3) uint8 pictures; ``MAPS`` lists them by name.
"""

from .iuv import iuv_images
from .maps import MAPS, depth_images, normal_images
from .skeleton import openpose_images

__all__ = ["MAPS", "depth_images", "iuv_images", "normal_images", "openpose_images"]
