# One image for every part of the pipeline: docker run tidemark extract --watch, load --watch, serve, console, migrate, check.
FROM node:20-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --include=dev --ignore-scripts --no-audit --no-fund
COPY runner ./runner
RUN npm run build

# The embedded servers are optional packages, and not for a container that is given its databases.
FROM node:20-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:20-slim
ENV NODE_ENV=production \
    CDC_LOG_DIR=/var/lib/tidemark/cdc_logs \
    LOG_DIR=/var/lib/tidemark/logs \
    TIDEMARK_RUN_DIR=/tmp/tidemark-run
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
# The client of RabbitMQ, for a relay that publishes there.
COPY --from=build /app/node_modules/amqplib ./node_modules/amqplib
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
COPY migrations ./migrations
COPY sql ./sql
COPY runner/console/assets ./runner/console/assets
COPY sample_data/source_orders.csv ./sample_data/
COPY deploy/docker/healthcheck.mjs ./deploy/docker/
RUN install --directory --owner=node --group=node --mode=0700 /var/lib/tidemark
# What runs as this user can read its code and not change it.
USER node
VOLUME /var/lib/tidemark
EXPOSE 9464 9465
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["node", "deploy/docker/healthcheck.mjs"]
ENTRYPOINT ["node", "dist/cli.js"]
CMD ["--help"]
