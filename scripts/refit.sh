# Sourced by scripts that train with proteins set aside, and then once more with all of them.
#
# The threshold is chosen on proteins that are set aside. But a model that has not seen them is
# worse, because the walk that selects them visits the densest parts of the network. So the model
# that is kept is trained on all pairs, and takes over the threshold.

# is_complete LOG_FILE: whether a training has ended.
is_complete() { grep -qs " stage_complete " "$1"; }

# refit_settings CHECKPOINT: the settings of the second training and of all that follows it, one a
# line; nothing if the first training has set no proteins aside.
refit_settings() {
  python - "$1" <<'PYTHON'
import json, pathlib, sys
import yaml
folder = pathlib.Path(sys.argv[1])
trained = yaml.safe_load((folder / "config.yaml").read_text())
if trained["data_config"]["validation"]["mode"] == "protein_disjoint":
    threshold = json.loads((folder / "decision.json").read_text())["threshold"]
    print("data_config.validation.mode=benchmark")
    print("evaluate.decision_threshold.mode=fixed")
    print(f"evaluate.decision_threshold.value={threshold}")
PYTHON
}
