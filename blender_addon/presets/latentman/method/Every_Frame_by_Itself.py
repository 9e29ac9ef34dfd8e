import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "METHOD",\n "values": {\n  "preset": "per_frame"\n },\n "from_defaults": true\n}')
