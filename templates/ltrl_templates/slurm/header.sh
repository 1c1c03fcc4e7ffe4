#!/bin/bash
{% for option in options %}
#SBATCH {{ option }}
{% endfor %}
