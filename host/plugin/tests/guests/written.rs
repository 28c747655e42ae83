//! Guests written by hand, for what a compiled language can't be told to do: misbehave before there are settings, grow
//! tables, be two plugins in one.

use loginscope_wasm::{Component, LoadError, Plugin};
use wit_parser::Resolve;

use crate::support::{engine, limits};

/// A validator (and, where it says so, an insight generator) that accepts everything; parts of it can be replaced by
/// instructions.
#[derive(Clone, Copy)]
pub(crate) struct Guest {
    /// The world it is built against, in the package `test:guest`.
    pub(crate) world: &'static str,
    /// What runs when it is instantiated.
    pub(crate) start: &'static str,
    /// What runs first in `describe`.
    pub(crate) describe: &'static str,
    /// What runs first in `validate`.
    pub(crate) validate: &'static str,
    /// Its name as the insight generator says it, 9 bytes.
    pub(crate) second_name: &'static str,
    /// Its name as the validator says it, 9 bytes.
    pub(crate) name: &'static str,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            world: "export loginscope:plugin/validator@0.1.0;",
            start: "",
            describe: "",
            validate: "",
            name: "wat-guest",
            second_name: "wat-guest",
        }
    }
}

impl Guest {
    /// The guest as a core module with the type of its world in it.
    pub(crate) fn module(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).unwrap();
        let mut resolve = Resolve::default();
        resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).unwrap();
        let text = format!("package test:guest;\n{FOREIGN}\nworld guest {{ {} }}", self.world);
        let package = resolve.push_str("guest.wit", &text).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        let encoding = wit_component::StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
        module
    }

    /// Loads it.
    pub(crate) fn load(&self) -> Result<Component, LoadError> {
        engine().load(&self.module(), "guest.wat")
    }

    /// Loads and configures it.
    pub(crate) fn plugin(&self) -> Plugin {
        self.load().unwrap().configure("{}", &limits()).unwrap()
    }

    fn text(&self) -> String {
        let Self { start, describe, validate, name, second_name, .. } = self;
        // Its rows, then where each list of it begins and its length.
        let batch = format!("(param {})", ["i32"; 13].join(" "));
        format!(
            r#"(module
              (memory (export "memory") 16)
              (table $table 1 funcref)
              (global $free (mut i32) (i32.const 4096))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $free (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                global.get $free
                (global.set $free (i32.add (global.get $free) (local.get 3))))

              (data (i32.const 16) "{name}{second_name}0.1.0")
              ;; A description: where the name begins and its length, where the version begins and its length.
              (data (i32.const 64) "\10\00\00\00\09\00\00\00\22\00\00\00\05\00\00\00")
              (data (i32.const 80) "\19\00\00\00\09\00\00\00\22\00\00\00\05\00\00\00")

              ;; At 128 there are only zeros: a declaration without anything in it, and an empty list.
              (func (export "loginscope:plugin/validator@0.1.0#describe") (result i32) {describe} i32.const 64)
              (func (export "loginscope:plugin/validator@0.1.0#configure") (param i32 i32) (result i32) i32.const 128)
              (func (export "loginscope:plugin/validator@0.1.0#validate") {batch} (result i32) {validate} i32.const 128)
              (func (export "loginscope:plugin/insight-generator@0.1.0#describe") (result i32) i32.const 80)
              (func (export "loginscope:plugin/insight-generator@0.1.0#configure") (param i32 i32) (result i32) i32.const 128)
              (func (export "loginscope:plugin/insight-generator@0.1.0#generate") (param i32) (result i32) i32.const 128)
              (func $start {start})
              (start $start))"#
        )
    }
}

/// An interface that no plugin may import.
const FOREIGN: &str = "interface secrets { steal: func(); }";
