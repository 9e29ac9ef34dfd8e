import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "LOOK",\n "values": {\n  "prompt": "a woman in a green shirt and black jeans, in a forest"\n },\n "from_defaults": true\n}')
