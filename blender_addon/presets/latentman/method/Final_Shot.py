import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "METHOD",\n "values": {\n  "preset": "surface",\n  "steps": 30\n },\n "from_defaults": true\n}')
