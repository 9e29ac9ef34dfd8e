"""What farms need of a scene: ``latentman.js`` is a job type for Flamenco's Manager, which asks ``shots`` what a job consists of.
Goes in: a scene. Comes out: text."""
