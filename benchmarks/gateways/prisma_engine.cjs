#!/usr/bin/env node
// Prisma's query engine in its WebAssembly build, behind the HTTP interface of the native one.
//
//     prisma_engine.cjs -p PORT
//
// LiteLLM's spend store needs Prisma's native engine, which npm and PyPI don't have: Prisma's tools download it from a
// host of their own. Without that host, this process stands in for it, with the same engine (the same commit, compiled
// to WebAssembly, in the package @prisma/client) and Prisma's own adapter for PostgreSQL. It translates only the
// notation: the native engine reads GraphQL from Python's client, the WebAssembly build Prisma's JSON protocol.
//
// Environment: PRISMA_DML_PATH and DATABASE_URL, as for the native engine; PRISMA_ENGINE_PACKAGES, the node_modules.
'use strict'

const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')

const COMMIT = '393aa359c9ad4a4bb28630fb5613f9c281cde053' // of the native engine that Python's client 0.15 uses
if (process.argv.includes('--version')) {
  process.stdout.write(`query-engine ${COMMIT}\n`)
  process.exit()
}

const packages = process.env.PRISMA_ENGINE_PACKAGES
const load = (name) => require(path.join(packages, name))
const { parse, visit } = load('graphql')
const { PrismaPg } = load('@prisma/adapter-pg')
const { bindAdapter } = load('@prisma/driver-adapter-utils')
const { Pool, types } = load('pg')

const BUILD = '@prisma/client/runtime/query_engine_bg.postgresql'
const TRACE = '{}'
const POOL_SIZE = 10
const ACTION = new RegExp(
  '^(findUniqueOrThrow|findUnique|findFirstOrThrow|findFirst|findMany|createOne|createMany|updateOne|updateMany|' +
    'upsertOne|deleteOne|deleteMany|aggregate|groupBy|queryRaw|executeRaw)(.*)$'
)

// Prisma's adapter has no type for PostgreSQL's `name`, which LiteLLM reads from the catalog; the native engine reads text.
const TEXT_TYPES = { 19: 25, 1003: 1009 } // name and name[], text and text[]
types.setTypeParser(1003, types.getTypeParser(1009))
const queryable = Object.getPrototypeOf(PrismaPg.prototype)
const { performIO } = queryable
queryable.performIO = async function (query) {
  const done = await performIO.call(this, query)
  if (done.ok) for (const column of done.value.fields) column.dataTypeID = TEXT_TYPES[column.dataTypeID] ?? column.dataTypeID
  return done
}

const source = fs.readFileSync(process.env.PRISMA_DML_PATH, 'utf8')
const jsonFields = Object.fromEntries(
  [...source.matchAll(/^model (\w+) \{([^}]*)\}/gm)].map(([, model, body]) => [
    model,
    new Set([...body.matchAll(/^ +(\w+) +Json/gm)].map(([, field]) => field)),
  ])
)

async function openEngine() {
  const build = load(`${BUILD}.js`)
  const module = new WebAssembly.Module(fs.readFileSync(path.join(packages, `${BUILD}.wasm`)))
  build.__wbg_set_wasm(new WebAssembly.Instance(module, { './query_engine_bg.js': build }).exports)
  const generator = 'generator client {\n provider = "x"\n previewFeatures = ["driverAdapters"]\n}'
  const datamodel = source.replace(/generator client \{[^}]*\}/, generator)
  const options = { datamodel, logLevel: 'error', logQueries: false, configDir: '.', env: {}, datasourceOverrides: {} }
  const url = new URL(process.env.DATABASE_URL)
  for (const own of [...url.searchParams.keys()]) url.searchParams.delete(own) // Prisma's own, such as connection_limit
  const pool = new Pool({ connectionString: url.href, max: POOL_SIZE })
  const engine = new build.QueryEngine(
    { ...options, ignoreEnvVarErrors: true },
    (line) => process.stderr.write(`${line}\n`),
    bindAdapter(new PrismaPg(pool))
  )
  await engine.connect(TRACE)
  return engine
}

// GraphQL, as Python's client writes it, to the JSON protocol.

const VALUES = {
  Name: { leave: (node) => node.value },
  IntValue: { leave: (node) => Number(node.value) },
  FloatValue: { leave: (node) => Number(node.value) },
  StringValue: { leave: (node) => node.value },
  BooleanValue: { leave: (node) => node.value },
  EnumValue: { leave: (node) => node.value },
  NullValue: { leave: () => ({ isNull: true }) }, // `null` would delete the node
  ListValue: { leave: (node) => node.values.map(plain) },
  ObjectField: { leave: (node) => [node.name, plain(node.value)] },
  ObjectValue: { leave: (node) => Object.fromEntries(node.fields) },
  Argument: { leave: (node) => [node.name, plain(node.value)] },
  Field: {
    leave: (node) => ({
      name: node.name,
      arguments: Object.fromEntries(node.arguments),
      selection: node.selectionSet ?? null,
    }),
  },
  SelectionSet: { leave: (node) => node.selections },
  OperationDefinition: { leave: (node) => node.selectionSet[0] },
  Document: { leave: (node) => node.definitions[0] },
}

function plain(value) {
  return value && value.isNull === true ? null : value
}

function translate(query) {
  const field = visit(parse(query, { noLocation: true }), VALUES)
  const [, action, modelName] = ACTION.exec(field.name)
  const sent = nested(field)
  sent.arguments = typed(sent.arguments, jsonFields[modelName])
  return { ...(modelName && { modelName }), action, query: sent }
}

// JSON for columns of JSON, which GraphQL has as text. The JSON protocol would store a text.
function typed(value, fields, isJson = false) {
  if (Array.isArray(value)) return value.map((inner) => typed(inner, fields, isJson))
  if (isJson && typeof value === 'string') return { $type: 'Json', value }
  if (value === null || typeof value !== 'object') return value
  const names = Object.entries(value)
  return Object.fromEntries(names.map(([name, inner]) => [name, typed(inner, fields, isJson || fields?.has(name))]))
}

function nested(field) {
  const selected = (field.selection ?? []).map((inner) => [
    inner.name,
    inner.selection || Object.keys(inner.arguments).length ? nested(inner) : true,
  ])
  return { arguments: field.arguments, selection: Object.fromEntries(selected) }
}

// The JSON protocol's response to the one that Python's client reads.

function untyped(value) {
  if (Array.isArray(value)) return value.map(untyped)
  if (value === null || typeof value !== 'object') return value
  if ('$type' in value) return value.value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, untyped(inner)]))
}

function named(response) {
  if (!response.data) return response
  const result = untyped(Object.values(response.data)[0])
  // The native engine returns JSON of a raw query as JSON, this one as text.
  const parse = (value, column) => (result.types[column] === 'json' && typeof value === 'string' ? JSON.parse(value) : value)
  if (result?.columns && result.types && result.rows) result.rows = result.rows.map((row) => row.map(parse))
  return { data: { result } }
}

async function respond(engine, request, body) {
  const [, kind, id, verb] = request.url.split('?')[0].split('/')
  if (kind === 'transaction' && id === 'start') return JSON.parse(await engine.startTransaction(body, TRACE))
  if (kind === 'transaction') return JSON.parse(await engine[`${verb}Transaction`](id, TRACE))
  if (request.method === 'GET') return { status: 'ok' }
  const { query, batch, transaction } = JSON.parse(body)
  const sent = batch ? { batch: batch.map((one) => translate(one.query)), transaction: transaction ? {} : null } : translate(query)
  const response = JSON.parse(await engine.query(JSON.stringify(sent), TRACE, request.headers['x-transaction-id']))
  return response.batchResult ? { batchResult: response.batchResult.map(named) } : named(response)
}

async function main() {
  const engine = await openEngine()
  const server = http.createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', async () => {
      let status = 200
      let answer
      try {
        answer = await respond(engine, request, Buffer.concat(chunks).toString())
      } catch (error) {
        process.stderr.write(`${error.stack ?? error}\n`)
        status = 500
        answer = { error: String(error) }
      }
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    })
  })
  server.keepAliveTimeout = 0
  server.listen(Number(process.argv[process.argv.indexOf('-p') + 1]), 'localhost')
}

main()
