# kinesis-local, in the version that test/kit/readers/package-lock.json names. The
# context is test/kit/readers.
ARG NODE_IMAGE=node:22-bookworm-slim
FROM ${NODE_IMAGE}
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
# It finds its certificate in its working directory.
WORKDIR /app/node_modules/kinesis-local
USER 65532:65532
EXPOSE 4568
ENTRYPOINT ["node", "main.js"]
