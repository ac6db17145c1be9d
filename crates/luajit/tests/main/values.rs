//! Values on the stack, tables, references, userdata.
use std::cell::Cell;
use std::rc::Rc;

use moonrest_luajit::{ErrorKind, Form, Light, Nil, Options, Value, Vm, With};

use crate::{check, eval, with_vm};

#[test]
fn values_come_back_as_they_went() {
    with_vm(|vm| {
        vm.with(|stack| {
            assert!(stack.put(Nil)?.is_nil());
            assert!(stack.put(true)?.is_true());
            assert_eq!(stack.put(1.5)?.as_number(), Some(1.5));
            assert_eq!(stack.put(-7i64)?.as_number(), Some(-7.0));
            assert_eq!(stack.put(b"a\0b")?.as_bytes(), Some(&b"a\0b"[..]));
            assert_eq!(stack.put("")?.as_bytes(), Some(&b""[..]));
            assert!(matches!(stack.put(Light(0))?, Value::Light(0)));
            let address = &raw const *vm as usize;
            assert!(matches!(stack.put(Light(address))?, Value::Light(found) if found == address));
            assert_eq!(stack.put(None::<&str>)?.type_name(), "nil");
            assert_eq!(stack.read::<i32>(4)?, -7);
            assert_eq!(stack.read::<Option<i32>>(1)?, None);
            assert_eq!(stack.read::<&[u8]>(3)?, b"1.5");
            assert_eq!(stack.read::<f64>(3)?, 1.5);
            assert_eq!(stack.read::<&[u8]>(1).unwrap_err().to_string(), "string expected, got nil");
            assert_eq!(stack.read::<&[u8]>(1000).unwrap_err().to_string(), "string expected, got no value");
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn tables_can_be_built_and_walked() {
    with_vm(|vm| {
        vm.with(|stack| {
            let table = stack.table(2, 2)?;
            table.raw_set(stack, "name", "value")?;
            table.raw_set(stack, 10, true)?;
            table.append(stack, "first")?;
            table.append(stack, "second")?;
            assert_eq!(table.raw_len(stack), 2);
            assert_eq!(table.raw_index(stack, 2)?.as_bytes(), Some(&b"second"[..]));
            assert_eq!(table.raw_get(stack, "name")?.as_bytes(), Some(&b"value"[..]));
            let mut seen = Vec::new();
            table.for_each(stack, |stack, key, value| {
                // Conversions and temporaries in the loop disturb nothing.
                stack.push("temporary")?;
                stack.push(value)?;
                let name = key.as_bytes().map(|key| String::from_utf8_lossy(key).into_owned());
                seen.push(name.unwrap_or_else(|| key.as_number().unwrap_or(0.0).to_string()));
                Ok(())
            })?;
            seen.sort();
            assert_eq!(seen, ["1", "10", "2", "name"]);
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn impossible_keys_are_refused() {
    with_vm(|vm| {
        vm.with(|stack| {
            let table = stack.table(0, 0)?;
            assert_eq!(table.raw_set(stack, Nil, 1).unwrap_err().to_string(), "table index is nil");
            assert_eq!(table.raw_set(stack, f64::NAN, 1).unwrap_err().to_string(), "table index is NaN");
            assert_eq!(table.raw_set(stack, None::<&str>, 1).unwrap_err().to_string(), "table index is nil");
            assert!(table.set(stack, Nil, 1).unwrap_err().to_string().contains("index is nil"));
            assert_eq!(stack.len(), 1);
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn metamethods_run_and_their_errors_come_back() {
    with_vm(|vm| {
        vm.with(|stack| {
            let chunk = stack.load(
                b"return setmetatable({}, { __index = function(_, k) return k .. '!' end,
                                            __newindex = function() error({ code = 7 }) end })",
                "=meta",
                Form::Text,
            )?;
            let table = stack.call(chunk, ())?.value(stack, 0).as_table().unwrap();
            assert_eq!(table.get(stack, "x")?.as_bytes(), Some(&b"x!"[..]));
            let error = table.set(stack, "x", 1).unwrap_err();
            let object = stack.put(error.value().unwrap())?.as_table().unwrap();
            assert_eq!(object.raw_get(stack, "code")?.as_number(), Some(7.0));
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn references_keep_and_release_values() {
    with_vm(|vm| {
        vm.with(|stack| {
            let weak = stack.load(b"weak = setmetatable({}, { __mode = 'v' })", "=weak", Form::Text)?;
            stack.call(weak, ())?;
            Ok(())
        })
        .unwrap();
        let kept = vm
            .with(|stack| {
                let table = stack.table(0, 0)?;
                let weak = stack.globals()?.raw_get(stack, "weak")?.as_table().unwrap();
                weak.append(stack, table)?;
                stack.keep(table)
            })
            .unwrap();
        vm.collect().unwrap();
        check(vm, "return #weak", "1");
        let second = kept.clone();
        drop(kept);
        vm.collect().unwrap();
        check(vm, "return #weak", "1");
        drop(second);
        vm.collect().unwrap();
        check(vm, "return #weak", "0");
    });
}

#[test]
fn many_references_cost_no_more_memory_than_they_hold() {
    with_vm(|vm| {
        let before = vm.memory_used();
        for _ in 0..100_000 {
            drop(vm.with(|stack| stack.keep("value")).unwrap());
        }
        vm.collect().unwrap();
        assert!(vm.memory_used() < before + 10_000, "{} → {}", before, vm.memory_used());
    });
}

#[test]
fn handles_outlive_the_vm_harmlessly() {
    let vm = Vm::new(&Options::default()).unwrap();
    let lua = (*vm).clone();
    let kept = vm.with(|stack| stack.keep("value")).unwrap();
    let coroutine = vm.coroutine().unwrap();
    drop(vm);
    assert_eq!(lua.with(|_| Ok(())).unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(coroutine.resume(()).unwrap_err().kind(), ErrorKind::Misuse);
    assert!(lua.coroutine().is_err());
    let other = Vm::new(&Options::default()).unwrap();
    assert_eq!(other.with(|stack| stack.push(&kept)).unwrap_err().to_string(), "a value of another VM");
    drop(kept);
    drop(coroutine);
}

#[test]
fn a_vm_dropped_by_its_own_code_stays_usable_to_the_end() {
    with_vm(|_| {
        let vm = Vm::new(&Options::default()).unwrap();
        let lua = (*vm).clone();
        let length = lua.with(|stack| {
            let bytes = stack.put("still here")?.as_bytes().unwrap();
            drop(vm);
            Ok(bytes.len())
        });
        assert_eq!(length.unwrap(), 10);
    });
}

/// Counts how often it is dropped.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn userdata_are_dropped_once_and_checked_by_type() {
    with_vm(|vm| {
        let drops = Rc::new(Cell::new(0));
        vm.with(|stack| {
            stack.define_type::<Counted>(|stack, _, methods| {
                let drops = stack.function(|call| {
                    let this = call.arg_userdata::<Counted>(1, "counted")?;
                    call.ret(this.0.get())
                })?;
                methods.raw_set(stack, "drops", drops)
            })?;
            let counted = stack.userdata(Counted(drops.clone()))?;
            assert!(counted.get::<Counted>(stack).is_some());
            assert!(counted.get::<u64>(stack).is_none());
            stack.globals()?.raw_set(stack, "counted", counted)
        })
        .unwrap();
        check(vm, "return counted:drops()", "0");
        assert!(
            eval(vm, "local n = counted.drops(io.stdout)")
                .unwrap_err()
                .to_string()
                .contains("bad argument #1 to 'drops' (counted expected, got userdata)")
        );
        assert!(
            eval(vm, "local n = counted.drops(3)").unwrap_err().to_string().contains("expected, got number")
        );
        // A finalizer called by hand drops the value; afterwards the userdata is nobody's.
        check(
            vm,
            "local gc = debug.getmetatable(counted).__gc; gc(counted); gc(counted); gc(io.stdout); gc(1)",
            "nil",
        );
        assert_eq!(drops.get(), 1);
        assert!(eval(vm, "return counted:drops()").is_err());
        eval(vm, "counted = nil").unwrap();
        vm.collect().unwrap();
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn a_borrowed_userdata_survives_its_finalizer() {
    with_vm(|vm| {
        let drops = Rc::new(Cell::new(0));
        vm.with(|stack| {
            let counted = stack.userdata(Counted(drops.clone()))?;
            let borrowed = counted.get::<Counted>(stack).unwrap();
            let gc = stack.load(b"local u = ...; debug.getmetatable(u).__gc(u)", "=gc", Form::Text)?;
            stack.call(gc, counted)?;
            assert_eq!(borrowed.0.get(), 0);
            Ok(())
        })
        .unwrap();
        vm.collect().unwrap();
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn closing_a_vm_drops_its_userdata() {
    let drops = Rc::new(Cell::new(0));
    let vm = Vm::new(&Options::default()).unwrap();
    vm.with(|stack| {
        let held = stack.userdata(Counted(drops.clone()))?;
        stack.globals()?.raw_set(stack, "held", held)
    })
    .unwrap();
    drop(vm);
    assert_eq!(drops.get(), 1);
}

#[test]
fn scopes_remove_temporaries_and_many_values_fit() {
    with_vm(|vm| {
        vm.with(|stack| {
            for _ in 0..100_000 {
                stack.scope(|stack| stack.push("temporary").unwrap());
            }
            assert_eq!(stack.len(), 0);
            for n in 0..7000 {
                stack.push(n)?;
            }
            assert_eq!(stack.value(7000).as_number(), Some(6999.0));
            let overflow = (0..2000).try_for_each(|n| stack.push(n)).unwrap_err();
            assert_eq!(overflow.to_string(), "stack overflow");
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn chunks_report_syntax_errors_and_travel_as_bytecode() {
    with_vm(|vm| {
        let bytecode = vm
            .with(|stack| {
                let error =
                    stack.load(b"x = = 1", "=content_by_lua(nginx.conf:12)", Form::Text).err().unwrap();
                assert_eq!(error.kind(), ErrorKind::Syntax);
                assert_eq!(error.to_string(), "content_by_lua(nginx.conf:12):1: unexpected symbol near '='");
                let error = stack.load(b"\n\nif", "@/srv/app.lua", Form::Text).err().unwrap();
                assert!(error.to_string().starts_with("/srv/app.lua:3: "), "{error}");
                let function = stack.load(b"local a = ...; return a * 2, y", "@double.lua", Form::Text)?;
                stack.dump(function)
            })
            .unwrap();
        assert!(!bytecode.is_empty());
        let other = Vm::new(&Options::default()).unwrap();
        other
            .with(|stack| {
                assert!(stack.load(bytecode.as_bytes(), "=x", Form::Text).is_err());
                let function = stack.load_bytecode(&bytecode)?;
                let environment = stack.table(0, 1)?;
                environment.raw_set(stack, "y", "from the environment")?;
                function.set_environment(stack, environment)?;
                let results = stack.call(function, 21)?;
                assert_eq!(results.len(), 2);
                assert_eq!(results.read::<i32>(stack, 0)?, 42);
                assert_eq!(results.value(stack, 1).as_bytes(), Some(&b"from the environment"[..]));
                let print = stack.globals()?.raw_get(stack, "print")?.as_function().unwrap();
                assert!(stack.dump(print).is_err());
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn argument_lists_can_be_pushed_by_a_closure() {
    with_vm(|vm| {
        vm.with(|stack| {
            let count = stack.load(b"return select('#', ...)", "=count", Form::Text)?;
            let given = stack.call(
                count,
                With(|stack: &moonrest_luajit::Stack<'_>| (0..50).try_for_each(|n| stack.push(n))),
            )?;
            assert_eq!(given.read::<i32>(stack, 0)?, 50);
            Ok(())
        })
        .unwrap();
    });
}
