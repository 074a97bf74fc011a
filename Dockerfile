# The service in an image: it serves the champion of the store that is mounted at /store.
#
#   docker build --tag lookalike .
#   export LOOKALIKE_API_KEY=...
#   docker run --publish 127.0.0.1:8000:8000 --env LOOKALIKE_API_KEY --user "$(id -u):$(id -g)" \
#       --volume "$PWD/stores/digits:/store:ro" lookalike
#
# In a container it listens on every address, so it refuses to start without LOOKALIKE_API_KEY or LOOKALIKE_KEYS; callers
# send the key in the header X-API-Key. Mount the folder of a file of keys, never the file: it is replaced when it changes. Its own user is 10001; with --user it may read a store that belongs to you. Every other command
# runs in it as well: `docker run ... lookalike versions --store /store`.
#
# A plain `torch` brings gigabytes of CUDA libraries. For its CPU wheel, name an index that has one:
#
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... --tag lookalike .

FROM python:3.11.14-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /src

# What it depends on comes first: this layer, by far the largest, lasts until one of these two files changes.
COPY pyproject.toml constraints.txt ./
RUN python -m venv --without-pip /opt/lookalike \
    && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && pip --python /opt/lookalike/bin/python install --no-cache-dir --constraint constraints.txt --requirement requirements.txt

COPY README.md ./
COPY training training
COPY index index
COPY service service
COPY lessons lessons
COPY src src
RUN pip --python /opt/lookalike/bin/python install --no-cache-dir --no-deps .


FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --create-home lookalike \
    && mkdir /store \
    && chown lookalike:lookalike /store
COPY --from=build /opt/lookalike /opt/lookalike
ENV PATH=/opt/lookalike/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/lookalike
VOLUME /store
EXPOSE 8000

# Ready: the version's stored question got its known answer. The empty ProxyHandler keeps a proxy of the host out of it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["lookalike"]
CMD ["serve", "--store", "/store", "--host", "0.0.0.0", "--port", "8000"]
