-- A list of things to do, as JSON over HTTP:
--
--   GET    /api/todos        all of them
--   POST   /api/todos        {"title": …}                 a new one
--   PATCH  /api/todos/ID     {"title": …, "done": …}      changes one
--   DELETE /api/todos/ID
--
-- To keep them in PostgreSQL or MySQL instead, require that library here and say in `DATABASE` where the server is.
local sqlite = require "resty.sqlite"
local cjson = require "cjson.safe"

local M = {}

local DATABASE = { database = "data/todo.db" }

-- Calls `work` with a connection from the pool.
local function with_db(work)
    local db = sqlite:new()
    local ok, err = db:connect(DATABASE)
    if not ok then
        ngx.log(ngx.ERR, "no database: ", err)
        return nil, err
    end
    db:set_timeout(5000)
    local result
    result, err = work(db)
    db:set_keepalive(60000, 10)
    return result, err
end

function M.prepare()
    with_db(function(db)
        return db:query([[
            create table if not exists todo (
                id integer primary key,
                title text not null check (length(title) between 1 and 500),
                done integer not null default 0
            )]])
    end)
end

local function answer(status, value)
    ngx.status = status
    ngx.say(cjson.encode(value))
end

local function find(db, id)
    local rows, err = db:query("select id, title, done from todo where id = ?", id)
    if not rows then
        return nil, err
    end
    for _, row in ipairs(rows) do
        row.done = row.done == 1
    end
    return rows[1]
end

local methods = {}

function methods.GET(db, id)
    if id then
        local row, err = find(db, id)
        return row and 200 or err and 500 or 404, row or { error = err or "there is none" }
    end
    local rows, err = db:query("select id, title, done from todo order by done, id")
    if not rows then
        return 500, { error = err }
    end
    for _, row in ipairs(rows) do
        row.done = row.done == 1
    end
    return 200, setmetatable(rows, cjson.array_mt)
end

function methods.POST(db, id, input)
    if id then
        return 405, { error = "post to the list" }
    end
    local res, err, _, state = db:query("insert into todo (title) values (?)", input.title)
    if not res then
        return (state == "23514" or state == "23502") and 422 or 500, { error = err }
    end
    return 201, find(db, res.insert_id)
end

function methods.PATCH(db, id, input)
    local res, err, _, state = db:query(
        "update todo set title = coalesce(?, title), done = coalesce(?, done) where id = ?", input.title, input.done, id)
    if not res then
        return state == "23514" and 422 or 500, { error = err }
    end
    if res.affected_rows == 0 then
        return 404, { error = "there is none" }
    end
    return 200, find(db, id)
end

function methods.DELETE(db, id)
    local res, err = db:query("delete from todo where id = ?", id)
    if not res then
        return 500, { error = err }
    end
    return res.affected_rows == 0 and 404 or 200, { deleted = res.affected_rows }
end

-- What the client has sent, as a table of what we know.
local function read_input()
    ngx.req.read_body()
    local text = ngx.req.get_body_data()
    if not text then
        return {}
    end
    local input = cjson.decode(text)
    if type(input) ~= "table" then
        return nil
    end
    local title, done = input.title, input.done
    return { title = type(title) == "string" and title or nil, done = type(done) == "boolean" and done or nil }
end

function M.serve(id)
    id = tonumber(id)
    local method = methods[ngx.req.get_method()]
    if not method then
        return answer(405, { error = "no such method" })
    end
    local input = read_input()
    if not input then
        return answer(400, { error = "the body is no JSON object" })
    end
    local done, err = with_db(function(db)
        answer(method(db, id, input))
        return true
    end)
    if not done then
        answer(503, { error = err })
    end
end

return M
