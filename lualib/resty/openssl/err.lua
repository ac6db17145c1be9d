-- resty.openssl.err: how errors read. The native functions answer theirs beside nil; there is no queue to look into.
local concat, format = table.concat, string.format

local M = {}

-- `context: what the library said`, or `context failed` where it said nothing.
function M.describe(context, text)
    if text and text ~= "" then
        return context .. ": " .. text
    end
    return context .. " failed"
end

-- As upstream's, for an empty queue.
function M.format_error(context, code)
    local parts = {}
    if code then
        parts[1] = format("code: %d", code)
        return (context and context .. ": " or "") .. concat(parts, " ")
    end
    return format("%s failed", tostring(context))
end

M.format_all_error = M.format_error
M.format_all_errors = M.format_error

function M.get_last_error_code()
    return 0
end

function M.get_lib_error_string()
    return "unknown library"
end

function M.get_reason_error_string()
    return ""
end

return M
