"""What arrives: packets opened, frames acted on. Nothing here sends."""
