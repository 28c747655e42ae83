//! Marks logins from a device that their user has not used before, and tells of them in an insight.

use loginscope_plugin::prelude::*;

/// What can be set in the configuration, under the plugin's name. Anything else there is refused when the plugin is loaded.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    /// How many devices a user may have before a new one is worth an insight.
    usual_devices: i64,
}

struct NewDevice {
    settings: Settings,
    devices_before: Past<i64>,
    device_is_known: Past<bool>,
    new_device: OutputField<bool>,
}

impl Plugin for NewDevice {
    type Settings = Settings;

    /// Says what the plugin needs, and keeps the typed keys to it.
    fn new(settings: Settings, declare: &mut Declare) -> Result<Self, String> {
        // The host keeps the different devices of each user, durably and at any scale. The plugin itself keeps nothing.
        let devices = declare.total("devices", Aggregate::distinct(["device_id"]).by("user_id"));
        Ok(Self {
            settings,
            // Of each login, what was known just before it.
            devices_before: declare.history(devices.value()),
            device_is_known: declare.history(devices.contains()),
            // The field to add to the login.
            new_device: declare.sets("new_device"),
        })
    }
}

impl Enricher for NewDevice {
    fn enrich(&self, login: &Login, history: &History, fields: &mut Fields) {
        // Missing where the login has no user or no device: then there is nothing to say.
        let Some(known) = history.get(self.device_is_known) else { return };
        fields.set(self.new_device, !known);

        let before = history.get(self.devices_before).unwrap_or_default();
        if !known && before > self.settings.usual_devices {
            let data = json!({ "user_id": login.user_id(), "device_id": login.device_id(), "devices_before": before });
            fields.insight(Insight::new("new_device", Severity::Medium, &data));
        }
    }
}

loginscope_plugin::export_enricher!(NewDevice);

#[cfg(test)]
#[test]
fn a_device_is_new_once_and_one_too_many_is_an_insight() {
    let plugin = loginscope_plugin::testing::Tested::<NewDevice>::new(r#"{"usual_devices": 2}"#).unwrap();
    let login = Login::builder().user_id("ada").device_id("phone").build();
    let told = |before, known| {
        let history = History::builder().with(plugin.devices_before, before).with(plugin.device_is_known, known);
        let fields = plugin.enrich(&login, &history.build());
        (fields.get(plugin.new_device), fields.insights().count())
    };
    assert_eq!(told(2, false), (Some(true), 0));
    assert_eq!(told(3, false), (Some(true), 1));
    assert_eq!(told(3, true), (Some(false), 0));
}
