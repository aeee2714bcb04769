# Sourced by scripts that train once with held-out proteins, and once more with all proteins.
#
# The threshold is chosen on held-out proteins. But a model that was not trained on these proteins
# is worse, because the walk that selects them visits the densest parts of the network. So the final
# model is trained on all pairs, and uses the threshold of the first model.

# is_complete LOG_FILE: whether a training has ended.
is_complete() { grep -qs " stage_complete " "$1"; }

# refit_settings CHECKPOINT: prints the settings of the second training and of later steps, one per
# line, or nothing if the first training held out no proteins.
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
