//! What swaps of plugins cost while logins come at a pace: how soon a saved file serves, how long workers pause, what trying a plugin on
//! live logins takes, and whether memory grows with the number of swaps.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::arrivals::Watch;
use crate::cluster::{Cluster, PARTITIONS};
use crate::contender::{Contender, LOGINSCOPE, Scene};
use crate::input::Logins;
use crate::load::{self, Load};
use crate::process::Running;
use crate::results::Findings;
use crate::statistics::{Summary, shown};
use crate::table::{grouped, render};
use crate::{Bench, Stop};

/// How many different logins are sent, again and again.
const POOL: u64 = 200_000;

/// How long logins come before something is measured.
const WARM_UP: Duration = Duration::from_secs(5);

/// How often each of the default plugins is saved anew.
const SAVES: usize = 5;

/// On how many logins a plugin is tried.
const SHADOWED: u64 = 100_000;

/// How long it is looked at what the process takes when nothing is swapped.
const QUIET: Duration = Duration::from_secs(10);

/// How long a swap may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often it is looked whether a file serves.
const POLL: Duration = Duration::from_millis(2);

const TOKEN: &str = "only-for-this-measurement";

/// The default plugins, as they lie beside the programs.
const PLUGINS: [&str; 3] = ["validate_logins.wasm", "enrich_logins.wasm", "summarize_logins.wasm"];

/// Measures loginscope at each pace.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Findings> {
    let mut cluster = Cluster::start(&[])?;
    let pool = load::pool(Logins::usual(POOL).lines(&bench.programs.loginscope)?)?;
    let mut tables = Vec::new();
    for rate in bench.options.rates() {
        let contender = Contender { program: LOGINSCOPE, exactly_once: true, workers: 2 };
        let scene = contender.scene(&format!("swap-{rate}"), &format!("user-login-swap-{rate}"));
        cluster.create(scene.to_create().chain([&scene.input]), PARTITIONS, &[])?;
        let rows = Swapping::start(bench, &cluster, contender, &scene, *rate, &pool)?.measure(bench)?;
        cluster.delete(scene.to_delete().chain([&scene.input]))?;
        tables.push((format!("{} logins a second:", grouped((*rate).into())), render(&["", "", "of"], &rows)));
    }
    Ok(Findings {
        title: "Swaps of plugins",
        figures: "Times are medians, with the range behind them.".to_owned(),
        tables,
        notes: notes(),
    })
}

/// A loginscope that serves logins that come at a pace, with plugins in files.
struct Swapping<'a> {
    running: Running,
    load: Load,
    watch: Watch,
    folder: tempfile::TempDir,
    control: Control,
    stop: &'a Stop,
    /// So many different versions were made by now.
    versions: Cell<u32>,
}

impl<'a> Swapping<'a> {
    fn start(
        bench: &Bench<'a>,
        cluster: &Cluster,
        contender: Contender,
        scene: &Scene,
        rate: u32,
        pool: &load::Pool,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for plugins")?;
        let port = xtask::kafka::free_ports(1)?.first().copied().context("no port is free")?;
        let mut command = contender.command(bench.programs, &cluster.brokers(), scene);
        for name in PLUGINS {
            let copy = folder.path().join(name);
            std::fs::copy(plugin(name), &copy).with_context(|| format!("{name} is not built"))?;
            command.arg("--plugin").arg(copy);
        }
        settings_of(&mut command, port, &folder.path().join("cache"));
        let mut running = Running::start(command, contender.name())?;
        let watch = Watch::start(&cluster.settings(), scene.output())?;
        let load = Load::start(&cluster.settings(), &scene.input, rate, pool)?;
        watch.wait_for(1, &mut running, bench.stop)?;
        bench.stop.pass(WARM_UP)?;
        let control = Control::at(port);
        Ok(Self { running, load, watch, folder, control, stop: bench.stop, versions: Cell::new(0) })
    }

    fn measure(mut self, bench: &Bench<'_>) -> Result<Vec<Vec<String>>> {
        let mut rows = Vec::new();
        let mut row = |what: &str, figure: String, of: String| {
            eprintln!("{what}: {figure} ({of})");
            rows.push(vec![what.to_owned(), figure, of]);
        };
        let (new, known) = self.saves()?;
        let count = format!("{} saves", new.len());
        row(
            "saved file → serving, never compiled before, ms",
            shown(Summary::of(new.iter().copied()), 0),
            count.clone(),
        );
        row("saved file → serving, compiled before, ms", shown(Summary::of(known.iter().copied()), 0), count);
        let [quiet, shadowed, report] = self.shadow()?;
        row("CPU a login, µs", format!("{quiet:.2}"), format!("{} s", QUIET.as_secs()));
        row("CPU a login more while it is shadowed, µs", format!("{shadowed:.2}"), grouped(SHADOWED));
        row("of which the new plugin itself, µs", format!("{report:.2}"), grouped(SHADOWED));
        let before = self.running.resident_bytes()?;
        let swaps = bench.options.swaps();
        let mut after_warm_up = before;
        for swap in 0..swaps {
            self.stop.check()?;
            self.running.check_alive()?;
            self.control.deploy(&version_of(PLUGINS[0], swap % 2)?, 0)?;
            if swap == swaps / 10 {
                after_warm_up = self.running.resident_bytes()?;
            }
        }
        let after = self.running.resident_bytes()?;
        let mebibytes = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
        row("memory before, MiB", mebibytes(before), String::new());
        row("memory after a tenth of the swaps, MiB", mebibytes(after_warm_up), grouped((swaps / 10).into()));
        row("memory after all swaps, MiB", mebibytes(after), grouped(swaps.into()));
        let metrics = self.control.metrics()?;
        for (name, quantile) in [("p50", "0.5"), ("p99", "0.99"), ("most", "1")] {
            let label = format!("loginscope_plugin_swap_pause_seconds{{quantile=\"{quantile}\"}}");
            let pause = metric(&metrics, &label)? * 1e3;
            let count = metric(&metrics, "loginscope_plugin_swap_pause_seconds_count")?;
            row(&format!("pause of a worker, {name}, ms"), format!("{pause:.2}"), grouped(count as u64));
        }
        let sent = self.load.end()?;
        self.watch.wait_for(sent, &mut self.running, self.stop)?;
        self.running.stop()?;
        let out = self.watch.end()?.len() as u64;
        if out != sent {
            bail!("{sent} logins were sent, and {out} came out");
        }
        row("logins that came out, each once", grouped(out), grouped(sent));
        Ok(rows)
    }

    /// How long saved files take until they serve, in milliseconds: new versions, and such that have served before.
    fn saves(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut new, mut known) = (Vec::new(), Vec::new());
        for _ in 0..SAVES {
            for name in PLUGINS {
                let (version, another) = (self.new_version(name)?, self.new_version(name)?);
                new.push(self.save(name, &version)?);
                self.save(name, &another)?;
                known.push(self.save(name, &version)?);
            }
        }
        Ok((new, known))
    }

    /// Saves a plugin as a careful build does, and waits until it serves.
    fn save(&self, name: &str, version: &[u8]) -> Result<f64> {
        let before = self.control.generation()?;
        let (file, new) = (self.folder.path().join(name), self.folder.path().join("new"));
        std::fs::write(&new, version)?;
        let saved = Instant::now();
        std::fs::rename(new, file)?;
        while self.control.generation()? == before {
            self.stop.check()?;
            if saved.elapsed() > PATIENCE {
                bail!("{name} doesn't serve {PATIENCE:?} after it was saved:\n{}", self.running.last_words());
            }
            std::thread::sleep(POLL);
        }
        Ok(saved.elapsed().as_secs_f64() * 1e3)
    }

    /// The CPU time in microseconds that a login takes; that it takes more while it is shadowed; and that the new plugin says it takes.
    fn shadow(&self) -> Result<[f64; 3]> {
        let spent = |time: Duration| -> Result<(f64, f64)> {
            let (cpu, judged) = (self.running.cpu()?, self.control.judged()?);
            self.stop.pass(time)?;
            Ok((self.running.cpu()?.saturating_sub(cpu).as_secs_f64() * 1e6, self.control.judged()? - judged))
        };
        let (cpu, judged) = spent(QUIET)?;
        let quiet = cpu / judged.max(1.0);
        let version = self.new_version(PLUGINS[0])?;
        let (before, judged_before) = (self.running.cpu()?, self.control.judged()?);
        let answer = self.control.deploy(&version, SHADOWED)?;
        let cpu = self.running.cpu()?.saturating_sub(before).as_secs_f64() * 1e6;
        let usual = (self.control.judged()? - judged_before) * quiet;
        let told = |what: &str| {
            let value = answer.pointer(&format!("/report/{what}")).and_then(Value::as_f64);
            value.with_context(|| format!("the answer doesn't tell {what}"))
        };
        let own = "new/validate-logins/logins";
        let (compared, rows) = (told("messages")?, told(&format!("{own}/rows"))?);
        let own = told(&format!("{own}/cpu_seconds"))? / rows * 1e6;
        Ok([quiet, (cpu - usual) / compared, own])
    }

    fn new_version(&self, name: &str) -> Result<Vec<u8>> {
        self.versions.set(self.versions.get() + 1);
        version_of(name, self.versions.get() + 1)
    }
}

/// The plugin with a section that says a number, which makes it another one to whoever looks at its bytes.
fn version_of(name: &str, number: u32) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(plugin(name)).with_context(|| format!("{name} is not built"))?;
    // A custom section: its kind, its size, its name behind the length of that, and anything.
    bytes.extend([0, 8, 3, b'v', b'e', b'r']);
    bytes.extend(number.to_le_bytes());
    Ok(bytes)
}

fn plugin(name: &str) -> PathBuf {
    xtask::plugins::default_output().join(name)
}

fn settings_of(command: &mut Command, port: u16, cache: &Path) {
    command.env("LOGINSCOPE_COMPILE_CACHE", cache);
    command.args(["--control-token", TOKEN, "--watch", "--probation", "1s", "--max-slowdown", "1000000"]);
    command.env("LOGINSCOPE_LISTEN", format!("127.0.0.1:{port}"));
}

/// The control port.
struct Control {
    url: String,
    agent: ureq::Agent,
}

impl Control {
    fn at(port: u16) -> Self {
        let config = ureq::Agent::config_builder().proxy(None).build();
        Self { url: format!("http://127.0.0.1:{port}"), agent: config.new_agent() }
    }

    fn get(&self, path: &str) -> Result<String> {
        let request = self.agent.get(format!("{}{path}", self.url)).header("Authorization", format!("Bearer {TOKEN}"));
        Ok(request.call().with_context(|| format!("{path} isn't answered"))?.body_mut().read_to_string()?)
    }

    fn generation(&self) -> Result<u64> {
        let plugins: Value = serde_json::from_str(&self.get("/v1/plugins")?)?;
        plugins.get("generation").and_then(Value::as_u64).context("no generation is told")
    }

    fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    /// How many logins were accepted so far.
    fn judged(&self) -> Result<f64> {
        metric(&self.metrics()?, "loginscope_logins_processed_total")
    }

    fn deploy(&self, component: &[u8], shadow: u64) -> Result<Value> {
        let deployment = json!({ "component": STANDARD.encode(component), "shadow": shadow });
        let request =
            self.agent.post(format!("{}/v1/plugins", self.url)).header("Authorization", format!("Bearer {TOKEN}"));
        let mut answer = request.send_json(deployment).context("a deployment isn't taken")?;
        Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
    }
}

fn metric(metrics: &str, name: &str) -> Result<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("there is no metric {name}"))
}

fn notes() -> Vec<String> {
    vec![
        "**The job**: `loginscope run`, exactly once, two workers, the default plugins from files, on logins that come at a pace in four \
         partitions; everything else on the same machine. In the end, each login that was sent has come out once."
            .to_owned(),
        "**Saved file → serving**: from the renaming of a file to its place until the control port tells of a new generation, asked every \
         2 ms: 150 ms in which the file is left alone, compiling, trying it on the messages that came last, and taking over. Each default \
         plugin in turn; a new version differs by a custom section."
            .to_owned(),
        "**Pause**: what each worker measures from its last batch on the old plugins to its first on the new ones: taking over the chain, \
         starting instances, looking through the state (`loginscope_plugin_swap_pause_seconds`)."
            .to_owned(),
        "**Shadowed**: a plugin is deployed with `shadow`; both chains take live logins beside the workers, each with a state of its own. \
         What it takes more is the CPU time of the whole process in that time, less what as many logins take when nothing is swapped; \
         compiling is in it."
            .to_owned(),
        "**Memory**: resident, before and after swaps to one of two versions in turn by the control port.".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_name_and_labels() {
        let metrics = "a_total 7\na{quantile=\"0.5\"} 0.25\n# b\n";
        assert_eq!(metric(metrics, "a_total").ok(), Some(7.0));
        assert_eq!(metric(metrics, "a{quantile=\"0.5\"}").ok(), Some(0.25));
        assert!(metric(metrics, "a").is_err());
    }
}
