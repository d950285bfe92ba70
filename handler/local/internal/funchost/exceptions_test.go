package funchost

import "testing"

// TestReason: what an orchestration's output says about a failure, with and without exceptions of .NET.
func TestReason(t *testing.T) {
	t.Parallel()
	lost := Failed("Orch", &Exception{Type: httpRequestException, Message: "Response status code does not indicate success: 500 (lost \"turn\")."})
	for _, c := range []struct{ output, want string }{
		{"*errors.errorString: no", "*errors.errorString: no"},
		{`{"message":"m","details":null}`, "m"},
		{`{"message":"the author's own","details":"d","more":1}`, `{"message":"the author's own","details":"d","more":1}`},
		{lost.Output("Orch"), lost.Error()},
		{NoAnswer("Orch").Output("Orch"), NoAnswer("Orch").Error()},
		{FailedOutput("Orch", "mail", lost).Output("Orch"), "Exception while executing function: Functions.Orch: Error while handling parameter mail after function returned: " + lost.Error()},
	} {
		if got := Reason(c.output); got != c.want {
			t.Errorf("%s: got %s, want %s", c.output, got, c.want)
		}
	}
	want := `{"message":"Function 'Orch' failed with an unhandled exception.","details":"Microsoft.Azure.WebJobs.Host.FunctionInvocationException: Exception while executing function: Functions.Orch\n` +
		` ---> System.Net.Http.HttpRequestException: Response status code does not indicate success: 500 (lost \"turn\").\n   --- End of inner exception stack trace ---"}`
	if got := lost.Output("Orch"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
