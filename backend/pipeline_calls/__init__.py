"""What callers of the diffusers pipelines give and get: texts, pictures, generators and results in diffusers' forms come in, what
``ShotPipeline`` takes and gives goes out."""
