"""flux2web: a team's studio for FLUX.2, on a budget."""
