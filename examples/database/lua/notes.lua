-- The service: notes as JSON.
local cjson = require "cjson.safe"
local stores = require "stores"

local M = {}

local CACHED_SECONDS = 60
local CHANNEL = "notes"

local function answer(status, value)
    ngx.status = status
    ngx.say(cjson.encode(value))
    return ngx.exit(ngx.OK)
end

local function key_of(id)
    return "note:" .. id
end

-- Takes a note out of the cache and tells listeners, in one round trip.
local function changed(what, id)
    stores.with_redis(function(red)
        red:init_pipeline()
        red:del(key_of(id))
        red:publish(CHANNEL, what .. " " .. id)
        return red:commit_pipeline()
    end)
end

function M.prepare()
    stores.with_postgres(function(db)
        assert(db:query([[
            CREATE TABLE IF NOT EXISTS notes (
                id serial PRIMARY KEY,
                text text NOT NULL,
                tags text[] NOT NULL DEFAULT '{}',
                made timestamptz NOT NULL DEFAULT now()
            )]]))
    end)
end

local function list()
    local tag = ngx.var.arg_tag
    local rows = stores.with_postgres(function(db)
        if tag then
            return assert(db:execute("SELECT id, text, tags FROM notes WHERE $1 = ANY(tags) ORDER BY id", ngx.unescape_uri(tag)))
        end
        return assert(db:execute("SELECT id, text, tags FROM notes ORDER BY id"))
    end)
    -- A plain list: the result has fields of its own.
    local notes = setmetatable({}, cjson.empty_array_mt)
    for i, row in ipairs(rows) do
        setmetatable(row.tags, cjson.empty_array_mt)
        notes[i] = row
    end
    return answer(200, notes)
end

local function create()
    ngx.req.read_body()
    local note = cjson.decode(ngx.req.get_body_data() or "")
    if type(note) ~= "table" or type(note.text) ~= "string" then
        return answer(400, { error = "expecting {\"text\": …, \"tags\": […]}" })
    end
    local rows, err = stores.with_postgres(function(db)
        return db:execute("INSERT INTO notes (text, tags) VALUES ($1, $2) RETURNING id", note.text, note.tags or {})
    end)
    if not rows then
        return answer(400, { error = err })
    end
    local id = rows[1].id
    changed("created", id)
    ngx.header["Location"] = "/notes/" .. id
    return answer(201, { id = id })
end

local function show(id)
    local text = stores.with_redis(function(red)
        return red:get(key_of(id))
    end)
    ngx.header["X-Cache"] = "hit"
    if not text or text == ngx.null then
        ngx.header["X-Cache"] = "miss"
        local rows = stores.with_postgres(function(db)
            return assert(db:execute("SELECT id, text, tags, made FROM notes WHERE id = $1", id))
        end)
        local note = rows[1]
        if not note then
            return answer(404, { error = "no such note" })
        end
        setmetatable(note.tags, cjson.empty_array_mt)
        text = cjson.encode(note)
        stores.with_redis(function(red)
            return red:setex(key_of(id), CACHED_SECONDS, text)
        end)
    end
    ngx.say(text)
end

local function delete(id)
    local result = stores.with_postgres(function(db)
        return assert(db:execute("DELETE FROM notes WHERE id = $1", id))
    end)
    if result.affected_rows == 0 then
        return answer(404, { error = "no such note" })
    end
    changed("deleted", id)
    return ngx.exit(204)
end

local function dispatch(methods, ...)
    local run = methods[ngx.req.get_method()]
    if not run then
        return ngx.exit(405)
    end
    return run(...)
end

function M.collection()
    return dispatch { GET = list, POST = create }
end

function M.item(id)
    return dispatch({ GET = show, DELETE = delete }, id)
end

-- Tells of changes until the client leaves.
function M.events()
    local red = assert(stores.redis())
    ngx.on_abort(function()
        ngx.exit(499)
    end)
    assert(red:subscribe(CHANNEL))
    ngx.say("listening")
    ngx.flush(true)
    red:set_timeouts(200, 500, 15000)
    while true do
        local message, err = red:read_reply()
        if message then
            ngx.say(message[3])
        elseif err == "timeout" then
            ngx.say("…")
        else
            return
        end
        if not ngx.flush(true) then
            return
        end
    end
end

return M
