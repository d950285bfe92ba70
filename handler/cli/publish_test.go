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

// TestIsRefused: only a role that is missing or not in force yet is worth waiting for.
func TestIsRefused(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]bool{
		"InaccessibleStorageException: Failed to access storage account for deployment: BlobUploadFailedException: Failed to upload blob to storage account: Response status code does not indicate success: 403 (This request is not authorized to perform this operation.)": true,
		"Failed to upload because Azure Storage responded with Forbidden : Response status code does not indicate success: 403 (This request is not authorized to perform this operation.)..\nFailed to upload blob package to storage account with Error":                    true,
		"ErrorCode:AuthorizationPermissionMismatch": true,
		"InaccessibleStorageException: BlobUploadFailedException: Name or service not known (stabc.blob.core.windows.net:443)":                               false,
		"InaccessibleStorageException: Failed to upload the block to storage account: 403 Key based authentication is not permitted on this storage account": false,
		"ERROR: (AuthorizationFailed) The client does not have authorization to perform action 'Microsoft.Web/sites/read': 403":                              false,
		"ERROR: (ResourceNotFound) The Resource 'Microsoft.Web/sites/shop' was not found":                                                                    false,
		"": false,
	} {
		if isRefused(output) != want {
			t.Errorf("%q: %t, want %t", output, !want, want)
		}
	}
}

// TestTail: only the end is kept.
func TestTail(t *testing.T) {
	t.Parallel()
	var end tail
	for range 3 {
		_, _ = end.Write([]byte(strings.Repeat("x", maxTail/2+1)))
	}
	_, _ = end.Write([]byte("end"))
	if text := end.String(); len(text) != maxTail || !strings.HasSuffix(text, "xend") {
		t.Errorf("%d bytes, which end in %q", len(text), text[len(text)-4:])
	}
}
