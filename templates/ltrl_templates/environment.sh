doing='the environment of the cluster profile'
{% for name, value in environment %}
export {{ name }}
{{ name }}={{ value }}
{% endfor %}
# `module load` and `activate` scripts read variables that are not set
doing='the setup of the cluster profile'
set +u
{% for line in setup %}
{{ line }}
{% endfor %}
set -u
{% for name, value in imported %}
export {{ name }}={{ value }}
{% endfor %}
