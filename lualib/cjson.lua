-- cjson, in Rust. A module of that name on package.path comes first.
return require "moonrest.cjson"
