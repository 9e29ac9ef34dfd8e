import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "METHOD",\n "values": {\n  "preset": "surface_fast",\n  "steps": 10\n },\n "from_defaults": true\n}')
