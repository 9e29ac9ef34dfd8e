import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "LOOK",\n "values": {\n  "prompt": "a man in a red shirt and blue jeans, on a beach"\n },\n "from_defaults": true\n}')
