//! `require`, embedded modules, LuaJIT's own modules.
use std::io::Write;

use crate::{check, eval, fails, with_vm};

#[test]
fn embedded_modules_are_found_before_files() {
    with_vm(|vm| {
        vm.embed(&[
            ("resty.embedded", b"local name = ... ; return { name = name }"),
            ("resty.broken", b"return = 1"),
            ("resty.failing", b"error('while loading')"),
        ]);
        check(vm, "return require('resty.embedded').name", "resty.embedded");
        check(vm, "return require('resty.embedded') == require('resty.embedded')", "true");
        fails(vm, "require 'resty.broken'", "resty.broken:1: unexpected symbol near '='");
        fails(vm, "require 'resty.failing'", "resty.failing:1: while loading");
        fails(
            vm,
            "require 'resty.absent'",
            "module 'resty.absent' not found:\n\tno field package.preload['resty.absent']\n\tno file ",
        );
        check(
            vm,
            "package.preload['resty.embedded'] = function() return 'own' end; package.loaded['resty.embedded'] = nil; return require 'resty.embedded'",
            "own",
        );
        vm.unload("resty.embedded").unwrap();
        check(
            vm,
            "package.preload['resty.embedded'] = nil; return require('resty.embedded').name",
            "resty.embedded",
        );
    });
}

#[test]
fn paths_can_be_set() {
    with_vm(|vm| {
        let directory = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(directory.path().join("on_disk.lua")).unwrap();
        file.write_all(b"return 'from disk'").unwrap();
        let default = vm.package_path().unwrap();
        assert!(default.starts_with(b"./?.lua;"));
        let path = format!("{}/?.lua;{}", directory.path().display(), String::from_utf8(default).unwrap());
        vm.set_package_path(path.as_bytes()).unwrap();
        check(vm, "return require 'on_disk'", "from disk");
        vm.set_package_cpath(b"/nowhere/?.so").unwrap();
        assert_eq!(vm.package_cpath().unwrap(), b"/nowhere/?.so");
        fails(vm, "require 'cmodule'", "no file '/nowhere/cmodule.so'");
    });
}

#[test]
fn the_tools_of_luajit_work() {
    with_vm(|vm| {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        for tool in ["v", "dump"] {
            eval(
                vm,
                &format!(
                    "local tool = require 'jit.{tool}'; tool.on({}{out:?})
                 local n = 0 for i = 1, 1000 do n = n + i end
                 tool.off()",
                    if tool == "dump" { "'tbim', " } else { "" }
                ),
            )
            .unwrap();
            let text = std::fs::read_to_string(&out).unwrap();
            assert!(text.contains("TRACE"), "{tool}: {text}");
        }
        check(
            vm,
            "local p = require 'jit.p'; p.start('f', '/dev/null'); p.stop(); return 'profiled'",
            "profiled",
        );
        check(vm, "return type(require('jit.bc').dump)", "function");
        check(vm, "return type(require('jit.vmdef').bcnames)", "string");
        check(vm, "return jit.version:sub(1, 10)", "LuaJIT 2.1");
    });
}
