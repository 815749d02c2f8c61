-- wrk script that posts the lines of a file to the URL in an endless loop. The environment variable
-- BODIES is the path of the file; a response that does not contain the result code EXPECTED_CODE
-- counts as failed. Each thread starts at a different line. At the end, the script
-- prints the measurements as one line of JSON.

local bodies, threads = {}, {}
local expected_text = '"' .. os.getenv("EXPECTED_CODE") .. '"'
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end

function setup(thread)
  thread:set("first", #threads * 7919)
  threads[#threads + 1] = thread
end

function init()
  next_body = first
  failed = 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
  next_body = next_body + 1
  return wrk.format(nil, nil, nil, bodies[next_body % #bodies + 1])
end

function response(status, headers, body)
  if status ~= 200 or not body:find(expected_text, 1, true) then failed = failed + 1 end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local error_responses = 0
  for _, thread in ipairs(threads) do error_responses = error_responses + thread:get("failed") end
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "error_responses": %d, "connection_errors": %d}',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, error_responses,
    errors.connect + errors.read + errors.write + errors.timeout))
end
