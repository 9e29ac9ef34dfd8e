import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "LOOK",\n "values": {\n  "prompt": "a grey robot, in a city street"\n },\n "from_defaults": true\n}')
