import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "METHOD",\n "values": {\n  "preset": "latentman_exact"\n },\n "from_defaults": true\n}')
