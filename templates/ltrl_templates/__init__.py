"""Shell templates: the launch scripts that `ltrl.render` fills in, and nothing else."""
