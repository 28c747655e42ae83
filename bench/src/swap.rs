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

/// For how long a plugin is tried on live logins at a time; before and after that, it is looked for as long at what the process takes without.
const SHADOWED: Duration = Duration::from_secs(5);

/// How often each of the default plugins is tried on live logins.
const SHADOWS: usize = 5;

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
        for name in PLUGINS {
            let Shadowed { quiet, more, own, ratio, logins } = self.shadow(bench, name)?;
            let of = format!("{SHADOWS} × {}", grouped(logins));
            let name = name.trim_end_matches(".wasm");
            row("CPU a login, µs", shown(quiet, 2), of.clone());
            row(&format!("more while another {name} is shadowed, µs"), shown(more, 2), of.clone());
            row("of which that plugin itself, µs", shown(own, 2), of.clone());
            row("so many times as much", shown(ratio, 1), of);
        }
        let before = self.running.resident_bytes()?;
        let swaps = bench.options.swaps();
        let mut after_warm_up = before;
        for swap in 0..swaps {
            self.stop.check()?;
            self.running.check_alive()?;
            self.control.deploy(&version_of(PLUGINS[0], swap % 2)?, 0, false)?;
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

    /// What it takes to try another version of a plugin on live logins.
    fn shadow(&self, bench: &Bench<'_>, name: &str) -> Result<Shadowed> {
        let version = self.new_version(name)?;
        let logins = u64::from(bench.options.rates().first().copied().unwrap_or(1)) * SHADOWED.as_secs();
        let try_out = |shadow: u64| self.control.deploy(&version, shadow, true);
        // It is compiled by then, and has been looked at.
        try_out(1)?;
        let quiet = || {
            let (cpu, judged) =
                self.spent(|| self.stop.pass(SHADOWED).map(|()| Value::Null)).map(|(spent, _)| spent)?;
            anyhow::Ok(cpu / judged.max(1.0))
        };
        let (mut figures, mut before) = ([const { Vec::new() }; 4], quiet()?);
        for _ in 0..SHADOWS {
            // What trying it on the messages that came last takes, and all else that doesn't go by the logins.
            let ((cpu, judged), _) = self.spent(|| try_out(0))?;
            let once = cpu - judged * before;
            let ((cpu, judged), answer) = self.spent(|| try_out(logins))?;
            let after = quiet()?;
            let usual = f64::midpoint(before, after);
            let (compared, own) = own(&answer)?;
            let more = (cpu - judged * usual - once) / compared;
            for (all, figure) in figures.iter_mut().zip([usual, more, own, more / own]) {
                all.push(figure);
            }
            before = after;
        }
        let [quiet, more, own, ratio] = figures.map(Summary::of);
        Ok(Shadowed { quiet, more, own, ratio, logins })
    }

    /// The CPU time in microseconds that the process takes meanwhile, and how many logins it accepts.
    fn spent(&self, meanwhile: impl FnOnce() -> Result<Value>) -> Result<((f64, f64), Value)> {
        let (cpu, judged) = (self.running.cpu()?, self.control.judged()?);
        let answer = meanwhile()?;
        let cpu = self.running.cpu()?.saturating_sub(cpu).as_secs_f64() * 1e6;
        Ok(((cpu, self.control.judged()? - judged), answer))
    }

    fn new_version(&self, name: &str) -> Result<Vec<u8>> {
        self.versions.set(self.versions.get() + 1);
        version_of(name, self.versions.get() + 1)
    }
}

/// What it takes to try a plugin on live logins, in microseconds of CPU time a login.
struct Shadowed {
    /// What the process takes without.
    quiet: Option<Summary>,
    /// What it takes more.
    more: Option<Summary>,
    /// What the plugin says it takes itself.
    own: Option<Summary>,
    /// How many times as much that is.
    ratio: Option<Summary>,
    /// On how many logins it was tried at a time.
    logins: u64,
}

/// On how many messages a plugin was tried, and how many microseconds it has taken itself for each: for logins and for windows.
fn own(answer: &Value) -> Result<(f64, f64)> {
    let report = answer.get("report").context("the answer has no report")?;
    let compared = report.get("messages").and_then(Value::as_f64).context("the report tells no messages")?;
    let plugins = report.get("new").and_then(Value::as_object).context("the report tells no plugins")?;
    let seconds = |plugin: &Value, what: &str| plugin.pointer(&format!("/{what}/cpu_seconds")).and_then(Value::as_f64);
    let spent = plugins.values().flat_map(|plugin| ["logins", "windows"].map(|what| seconds(plugin, what)));
    Ok((compared, spent.flatten().sum::<f64>() / compared * 1e6))
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

    fn deploy(&self, component: &[u8], shadow: u64, dry_run: bool) -> Result<Value> {
        let deployment = json!({ "component": STANDARD.encode(component), "shadow": shadow, "dry_run": dry_run });
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
        "**Shadowed**: another version of a plugin is deployed with `shadow`, as a dry run that was done before, so it is compiled. What it takes \
         more is the CPU time of the whole process meanwhile, less what as many logins take just before and after, less what the same dry run \
         takes without `shadow`; by the messages it was tried on. The plugin's own time is that of its calls, as the report tells it."
            .to_owned(),
        "**Memory**: resident, before and after swaps to one of two versions in turn by the control port.".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_logins_and_windows_is_a_plugin_s_own() {
        let used = json!({ "logins": { "cpu_seconds": 0.25 }, "windows": { "cpu_seconds": 0.5 } });
        let answer = json!({ "report": { "messages": 1000, "old": { "p": {} }, "new": { "p": used } } });
        assert_eq!(own(&answer).ok(), Some((1000.0, 750.0)));
        assert!(own(&json!({ "end": "unchanged" })).is_err());
    }

    #[test]
    fn a_metric_is_found_by_its_name_and_labels() {
        let metrics = "a_total 7\na{quantile=\"0.5\"} 0.25\n# b\n";
        assert_eq!(metric(metrics, "a_total").ok(), Some(7.0));
        assert_eq!(metric(metrics, "a{quantile=\"0.5\"}").ok(), Some(0.25));
        assert!(metric(metrics, "a").is_err());
    }
}
