-- Posts the bodies of the file BODIES to the path of the URL, one after the other, over and over.
-- Each thread begins at another place. At the end it prints one line of JSON.

local bodies, threads = {}, {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end

function setup(thread)
  thread:set("first", #threads * 7919)
  threads[#threads + 1] = thread
end

function init()
  next_body = first
  refused = 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
  next_body = next_body + 1
  return wrk.format(nil, nil, nil, bodies[next_body % #bodies + 1])
end

function response(status, headers, body)
  if status ~= 200 or not body:find('"0000"', 1, true) then refused = refused + 1 end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local refusals = 0
  for _, thread in ipairs(threads) do refusals = refusals + thread:get("refused") end
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, refusals,
    errors.connect + errors.read + errors.write + errors.timeout))
end
