"""The operator's command line. The function app never imports it; it goes through the app's own stores."""
