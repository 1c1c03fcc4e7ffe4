"""What NeMo-RL's container has for our code to import."""

from __future__ import annotations

__all__ = ["CONTAINER"]

CONTAINER: frozenset[str] = frozenset(
    # Requirements of `nemo-rl` itself with all that follows from them on Linux, without extras, in the uv.lock of both
    # 0.6.0 and 0.7.0. Ours are among them (0.7.0): pydantic 2.13.4 and pydantic-core 2.46.4 for every module, PyYAML
    # 6.0.3 and omegaconf for the configuration, httpx 0.28.1 for the judge `openai`, platformdirs 4.9.6, and torch, ray
    # and transformers for the data set, the environment and the hooks. jinja2, rich, typer and submitit, which ltrl
    # requires too, are imported by the compiler and the launcher alone.
    """
    absl-py accelerate aiohappyeyeballs aiohttp aiohttp-cors aiosignal alembic annotated-doc annotated-types
    antlr4-python3-runtime anyio attrs blinker blobfile cachetools certifi cffi charset-normalizer click cloudpickle
    colored colorful contourpy cryptography cuda-bindings cuda-core cuda-pathfinder cycler databricks-sdk datasets
    debugpy dill distlib docker docopt fastapi filelock flask flask-cors fonttools frozenlist fsspec gitdb gitpython
    google-api-core google-auth googleapis-common-protos graphene graphql-core graphql-relay greenlet grpcio gunicorn
    h11 hf-xet httpcore httpx huey huggingface-hub hydra-core idna importlib-metadata itsdangerous jinja2 joblib
    jsonschema jsonschema-specifications kiwisolver latex2sympy2-extended lxml mako markdown markdown-it-py markupsafe
    math-verify matplotlib mdurl mlflow mlflow-skinny mlflow-tracing mpmath msgpack multidict multiprocess narwhals
    nccl4py nemo-rl networkx ninja num2words numpy nvidia-ml-py nvtx omegaconf opencensus opencensus-context
    opentelemetry-api opentelemetry-exporter-prometheus opentelemetry-proto opentelemetry-sdk
    opentelemetry-semantic-conventions packaging pandas pillow pip platformdirs plotly prettytable prometheus-client
    propcache proto-plus protobuf psutil py-spy pyarrow pyasn1 pyasn1-modules pybase64 pycparser pycryptodomex pydantic
    pydantic-core pyecharts pygments pyparsing python-dateutil python-dotenv pytz pyyaml pyzmq ray referencing regex
    requests rich rpds-py safetensors scikit-learn scipy sentry-sdk setuptools shellingham simplejson six skops
    smart-open smmap sqlalchemy sqlparse starlette swanlab sympy tensorboard tensorboard-data-server threadpoolctl
    tiktoken tokenizers torch torchdata torchvision tqdm transformers triton typer typing-extensions typing-inspection
    tzdata urllib3 uvicorn virtualenv wandb wcwidth werkzeug wrapt xxhash yarl zipp
    """.split()  # noqa: SIM905  # one name a line would be three screens
)
"""Distributions by normalized name. They do not travel in a bundle, where a second copy would take their place."""
