import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "METHOD",\n "values": {\n  "preset": "latentman"\n },\n "from_defaults": true\n}')
