package cli

import (
	"strings"
	"testing"
)

func TestPublishCommands(t *testing.T) {
	t.Parallel()
	const setting = "az functionapp config appsettings set --resource-group %s --name shop --settings AzureFunctionsJobHost__customHandler__description__defaultExecutablePath=app.exe --output none"
	for name, c := range map[string]struct {
		command publishCommand
		binary  string
		want    []string
	}{
		"az":         {publishCommand{App: "shop", ResourceGroup: "rg"}, "app", []string{"az functionapp deployment source config-zip --resource-group rg --name shop --src app.zip"}},
		"az, slot":   {publishCommand{App: "shop", ResourceGroup: "rg", Slot: "next"}, "app", []string{"az functionapp deployment source config-zip --resource-group rg --name shop --src app.zip --slot next"}},
		"func":       {publishCommand{App: "shop"}, "app", []string{"func azure functionapp publish shop --custom --no-build"}},
		"func, slot": {publishCommand{App: "shop", Slot: "next"}, "app", []string{"func azure functionapp publish shop --custom --no-build --slot next"}},
		"Windows":    {publishCommand{App: "shop", ResourceGroup: "rg"}, "app.exe", []string{strings.Replace(setting, "%s", "rg", 1), "az functionapp deployment source config-zip --resource-group rg --name shop --src app.zip"}},
	} {
		var got []string
		for _, command := range c.command.commands("app", c.binary, "app.zip") {
			got = append(got, strings.Join(command, " "))
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
