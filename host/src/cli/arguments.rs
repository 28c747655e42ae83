//! The command line as clap sees it, made from the keys that each command has.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

use super::{COMMANDS, CommandLine};
use crate::config::{Key, Shape};

/// The width of the help, in columns.
const WIDTH: usize = 80;

/// How far clap indents what stands below a flag.
const INDENT: usize = 10;

/// The whole command line.
pub(crate) fn command() -> clap::Command {
    clap::Command::new("loginscope")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Login analytics on Kafka, as sandboxed WebAssembly plugins")
        .after_help(
            "Each command's flags can also be given as environment variables, and most in a\n\
             configuration file: see the command's --help.\n\n\
             Exit status: 0 done, 1 a failure at run time, 2 a bad command line or\n\
             configuration, 130 ended by Ctrl-C. RUST_LOG sets the log level; logs go to\n\
             standard error.",
        )
        .max_term_width(WIDTH)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(COMMANDS.iter().map(subcommand))
}

fn subcommand(line: &CommandLine) -> clap::Command {
    let mut command = clap::Command::new(line.name).about(line.about).next_line_help(true).after_help(
        "A flag wins over its environment variable (an empty one counts as unset), that\n\
         over the configuration file. Any librdkafka property can be set there under\n\
         [kafka], or as LOGINSCOPE_KAFKA_SASL_PASSWORD; with …_file or …_FILE, the value\n\
         is read from a file.",
    );
    for (name, help) in line.operands {
        command = command.arg(Arg::new(*name).help(help));
    }
    for (heading, keys) in line.keys {
        command = command.next_help_heading(*heading).args(keys.iter().map(argument));
    }
    command
}

fn argument(key: &Key) -> Arg {
    let argument = Arg::new(key.flag)
        .long(key.flag)
        .help(help(key))
        .value_name(key.value)
        .value_parser(ValueParser::os_string())
        .allow_negative_numbers(true);
    let argument = match key.alias {
        Some(alias) => argument.alias(alias),
        None => argument,
    };
    let argument = match key.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    match key.shape {
        Shape::One => argument.action(ArgAction::Set),
        Shape::Several => argument.action(ArgAction::Append),
        Shape::Switch => {
            argument.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}

/// What a key is, then its default and its variables: on one line if they fit.
fn help(key: &Key) -> String {
    let alias = key.alias.map(|alias| format!(" (or --{alias})")).unwrap_or_default();
    let default = key.default.or(key.otherwise).map(|default| format!("[default: {default}]"));
    let variables = [Some(key.variable()), key.original_variable.map(str::to_owned)];
    let variables = format!("[env: {}]", variables.into_iter().flatten().collect::<Vec<_>>().join(", "));
    let below = match default {
        None => variables,
        Some(default) => {
            let fits = default.len() + variables.len() < WIDTH - INDENT;
            format!("{default}{}{variables}", if fits { ' ' } else { '\n' })
        }
    };
    format!("{}{alias}\n{below}", key.help)
}

/// The operands of a command that were given, in their order.
pub(super) fn operands(line: &CommandLine, flags: &clap::ArgMatches) -> Vec<String> {
    line.operands.iter().filter_map(|(name, _)| flags.get_one::<String>(name).cloned()).collect()
}
