import bpy

bpy.ops.latentman.load_values(values='{\n "kind": "LOOK",\n "values": {\n  "prompt": "a white astronaut, on the surface of the moon"\n },\n "from_defaults": true\n}')
