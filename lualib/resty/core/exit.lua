-- resty.core.exit: ngx.exit is native.
return { version = require("resty.core.base").version }
