"""What the add-on and the backend both speak: skeleton, motion, messages, arrays.

Only the standard library, numpy and msgspec come in; plain data and pure functions go out.
"""
