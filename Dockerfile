# xbench on a CPU. Not built by the tests: docker build -t xbench .
# For an image without CUDA's libraries: --build-arg TORCH_INDEX=URL of torch's index of CPU builds
FROM python:3.11-slim
ARG TORCH_INDEX=""
RUN test -z "$TORCH_INDEX" || pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"
WORKDIR /opt/xbench
COPY . .
RUN pip install --no-cache-dir .
WORKDIR /work
ENTRYPOINT ["xbench"]
