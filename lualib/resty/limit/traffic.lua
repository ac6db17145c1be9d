-- resty.limit.traffic: several limits at once. A request passes all of them or counts for none.
local max = math.max

local M = { _VERSION = "0.09" }

-- The last limit is asked and counted first: were another one to refuse afterwards, all that counted take it back.
function M.combine(limiters, keys, states)
    local last = #limiters
    local delay, longest = nil, 0
    local state
    for n = 1, last do
        delay, state = limiters[n]:incoming(keys[n], n == last)
        if not delay then
            return nil, state
        end
    end
    if last > 0 then
        longest = delay
        if states then
            states[last] = state
        end
    end
    for n = 1, last - 1 do
        delay, state = limiters[n]:incoming(keys[n], true)
        if not delay then
            for back = 1, n - 1 do
                limiters[back]:uncommit(keys[back])
            end
            limiters[last]:uncommit(keys[last])
            return nil, state
        end
        if states then
            states[n] = state
        end
        longest = max(longest, delay)
    end
    return longest
end

return M
