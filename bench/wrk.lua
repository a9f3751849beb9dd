-- Sends the requests of `load.ts` and compares every answer. Arguments: size of the body, ids of the sessions.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local lines = {}
  for line = 0, tonumber(args[1]) / 16 - 1 do
    lines[#lines + 1] = string.format("%015d\n", line)
  end
  expected = table.concat(lines)
  requests = {}
  for id in args[2]:gmatch("[^,]+") do
    requests[#requests + 1] = wrk.format("GET", nil, { ["x-session-id"] = id })
  end
  sent, wrong, example = 0, 0, ""
end

function request()
  sent = sent + 1
  return requests[sent % #requests + 1]
end

function response(status, _, body)
  if status ~= 200 or body ~= expected then
    wrong, example = wrong + 1, string.format("status %d, %d bytes", status, #body)
  end
end

function done(summary, latency)
  local wrong, example = 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    if thread:get("wrong") > 0 then example = thread:get("example") end
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"operations":%d,"seconds":%f,"p50":%d,"p90":%d,"p99":%d,"wrong":%d,"example":"%s","failed":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    wrong, example, errors.connect + errors.read + errors.write + errors.timeout))
end
